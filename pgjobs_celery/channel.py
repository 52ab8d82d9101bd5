"""A kombu channel over job rows and message rows.

Light on purpose: kombu's virtual channel costs 52 µs per task in a worker's main process, where a
Celery task costs about 110 µs altogether.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import tzinfo
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from amqp.protocol import queue_declare_ok_t
from celery import current_app, current_task
from kombu.exceptions import ChannelError
from kombu.transport.base import StdChannel, to_rabbitmq_queue_arguments

from .claiming import ClaimPlan
from .db.messages import Delivery, NewMessage
from .delivery import CLAIM, Message
from .errors import UndecodableRow
from .job import Claim, Fence
from .message import (
    decode_envelope,
    encode_body,
    encode_envelope,
    is_durable,
    is_job,
    rank,
    time_to_live,
    to_job,
)
from .node import get_node
from .outcome import completed, discarded, error_entry, error_from, released, requeued

if TYPE_CHECKING:
    from .transport import Transport

logger = logging.getLogger(__name__)

_ids = count(1)

#: AMQP's reply codes.
NOT_FOUND, PRECONDITION_FAILED = 404, 406

#: How many messages that are no jobs one statement takes.
MESSAGE_BATCH = 100


class Consumer(NamedTuple):
    """Who wants what comes to a queue."""

    queue: str
    callback: Callable[[Message], Any]
    no_ack: bool


class QoS:
    """What kombu and Celery look at of a channel's prefetching."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def prefetch_count(self) -> int:
        """How many unacknowledged messages a channel may hold; 0 for any number."""
        return self._channel.prefetch_count

    def can_consume(self) -> bool:
        """True while another message may be delivered."""
        return self._channel.room() > 0


class Channel(StdChannel):  # type: ignore[misc]
    """Publishes, declares and consumes; one thread at a time, but for acknowledgements."""

    def __init__(self, transport: Transport) -> None:
        self.connection = transport
        self.channel_id = next(_ids)
        self.database = transport.database
        self.options = transport.options
        self.node = get_node(self.database)
        self.prefetch_count = 0
        self.qos = QoS(self)
        self.closed = False
        self._pid = os.getpid()
        self._tags = count(1)
        self._consumers: dict[str, Consumer] = {}
        self._by_queue: dict[str, Consumer] = {}
        self._plan = ClaimPlan(self.options.max_claim, self.options.read_ahead)
        self._buffer: deque[Claim] = deque()
        self._unacked: dict[int, Message] = {}
        self._finished = 0
        #: Queues with messages that are no jobs, as far as we have heard.
        self._news: set[str] = set()
        self._own_queues: set[str] = set()

    # Exchanges, queues, bindings

    def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Make an exchange; ChannelError if it is there with another type, or not at all (passive)."""
        if not exchange:
            return
        if passive:
            found = self.database.routes.find_exchange(exchange)
            if found is None:
                raise ChannelError(f"{NOT_FOUND} no exchange {exchange!r}")
            return
        found = self.database.routes.declare_exchange(
            exchange, type, durable, auto_delete, arguments or {}
        )
        if found != type:
            raise ChannelError(
                f"{PRECONDITION_FAILED} exchange {exchange!r} is there already, and of type {found}, "
                f"not {type}: give this one another name, or delete the old one"
            )

    def exchange_delete(self, exchange: str, **_: Any) -> None:
        """Take away an exchange and its bindings."""
        self.database.routes.delete_exchange(exchange)

    def exchange_bind(self, *_: Any, **__: Any) -> None:
        """Not offered: bind the queue to both exchanges instead."""
        raise NotImplementedError("exchanges cannot be bound to each other: bind the queue to both")

    exchange_unbind = exchange_bind

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> queue_declare_ok_t:
        """Make a queue, or (passive) count what a consumer of it would get.

        ChannelError if it is not there (passive).
        """
        if passive:
            if not self.database.routes.has_queue(queue):
                raise ChannelError(f"{NOT_FOUND} no queue {queue!r}")
            return queue_declare_ok_t(queue, self.database.jobs.count_ready(queue), 0)
        queue = queue or f"pgjobs.gen-{uuid4()}"
        arguments = arguments or {}
        self.database.routes.declare_queue(
            queue,
            durable=durable,
            auto_delete=auto_delete,
            exclusive=exclusive,
            owner=self.node.id if auto_delete or exclusive else None,
            expires_after=_seconds(arguments.get("x-expires")),
            message_ttl=_seconds(arguments.get("x-message-ttl")),
            arguments=arguments,
        )
        if auto_delete or exclusive:
            self._own_queues.add(queue)
        return queue_declare_ok_t(queue, 0, 0)

    def queue_bind(
        self, queue: str, exchange: str = "", routing_key: str = "", **_: Any
    ) -> None:
        """Route what comes to the exchange with the key to the queue."""
        if exchange:
            self.database.routes.bind_queue(exchange, routing_key or "", queue)

    def queue_unbind(
        self, queue: str, exchange: str = "", routing_key: str = "", **_: Any
    ) -> None:
        """Take a binding away."""
        self.database.routes.unbind_queue(exchange, routing_key or "", queue)

    def queue_purge(self, queue: str, **_: Any) -> int:
        """Empty a queue of what nobody has claimed; how much that was. Its jobs are cancelled."""
        return self.database.jobs.purge_jobs(queue) + self.database.messages.purge_messages(queue)

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **_: Any
    ) -> int:
        """Take a queue away, with all that waits in it; how much that was."""
        if if_empty and self.database.jobs.count_ready(queue):
            raise ChannelError(f"{PRECONDITION_FAILED} queue {queue!r} is not empty")
        if if_unused and queue in self._by_queue:
            raise ChannelError(f"{PRECONDITION_FAILED} queue {queue!r} is in use")
        purged = self.queue_purge(queue)
        self.database.routes.delete_queue(queue)
        self._own_queues.discard(queue)
        return purged

    def after_reply_message_received(self, queue: str) -> None:
        """A reply queue has served its purpose."""
        self.queue_delete(queue)

    def get_bindings(self) -> list[tuple[str, str, str]]:
        """Every binding: queue, exchange, routing key."""
        return self.database.routes.list_bindings()

    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **kwargs: Any) -> Any:
        """kombu's queue options as AMQP's arguments."""
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    # Publish

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A message as :meth:`basic_publish` takes it."""
        properties = dict(properties or {})
        if priority is not None:
            properties["priority"] = priority
        return {
            "body": body,
            "content-type": content_type,
            "content-encoding": content_encoding,
            "headers": headers or {},
            "properties": properties,
        }

    def basic_publish(
        self, message: dict[str, Any], exchange: str = "", routing_key: str = "", **_: Any
    ) -> None:
        """Put a message where it belongs; it is committed when this returns.

        A Celery task for one queue is a job. Everything else, and a copy for each of several
        queues, is a message. Raises MessageRefused for what cannot be stored.
        """
        if not is_job(message):
            self._publish_message(message, exchange, routing_key)
            return
        queues = (
            self.database.routes.route_message(exchange, routing_key) if exchange else [routing_key]
        )
        if len(queues) != 1:
            if not queues and self.database.routes.find_exchange(exchange) != "fanout":
                logger.warning(
                    "task %s[%s] reaches no queue: nothing is bound to exchange %r with key %r",
                    message["headers"]["task"], message["headers"]["id"], exchange, routing_key,
                )  # fmt: skip
            self.database.messages.insert_messages(
                self._new_message(message, exchange, routing_key), queues
            )
            return
        job = to_job(
            message,
            queues[0],
            exchange=exchange,
            routing_key=routing_key,
            order=self.options.priority_order,
            max_body_size=self.options.max_body_size,
            timezone=_timezone,
        )
        self.database.jobs.insert_job(job, self._holder(job.task_id))

    def _publish_message(self, message: dict[str, Any], exchange: str, routing_key: str) -> None:
        new = self._new_message(message, exchange, routing_key)
        if exchange:
            self.database.messages.publish_messages(new, exchange, routing_key)
        else:
            self.database.messages.insert_messages(new, [routing_key])

    def _new_message(
        self, message: dict[str, Any], exchange: str, routing_key: str
    ) -> NewMessage:
        return NewMessage(
            message=encode_envelope(message, exchange, routing_key),
            body=encode_body(message, self.options.max_body_size),
            durable=is_durable(message),
            priority=rank(message["properties"].get("priority"), self.options.priority_order),
            ttl=time_to_live(message),
        )

    def _holder(self, task_id: str) -> Fence | None:
        """The claim of a task that publishes itself again: ``retry()``, ``replace()``."""
        task = current_task._get_current_object() if current_task else None
        if task is None or task.request.id != task_id:
            return None
        claim = (task.request.properties or {}).get(CLAIM)
        return Fence(UUID(claim[0]), claim[1]) if claim else None

    # Consume

    def basic_consume(
        self,
        queue: str,
        no_ack: bool = False,
        callback: Callable[[Message], Any] | None = None,
        consumer_tag: str = "",
        **_: Any,
    ) -> str:
        """Deliver what comes to the queue to ``callback``, from the next turn on."""
        tag = consumer_tag or f"pgjobs.{next(self._tags)}"
        self._consumers[tag] = Consumer(queue, callback or (lambda message: None), no_ack)
        self._consumers_changed()
        return tag

    def basic_cancel(self, consumer_tag: str, **_: Any) -> None:
        """Deliver no more to this consumer; what was claimed for it goes back in line."""
        consumer = self._consumers.pop(consumer_tag, None)
        if consumer is None:
            return
        self._consumers_changed()
        if consumer.queue not in self._by_queue:
            self._release_buffer([claim for claim in self._buffer if claim.queue == consumer.queue])

    def _consumers_changed(self) -> None:
        before = set(self._by_queue)
        self._by_queue = {consumer.queue: consumer for consumer in self._consumers.values()}
        if set(self._by_queue) != before:
            self._plan.set_queues(self._by_queue)
            self._news.update(set(self._by_queue) - before)
            self.connection.queues_changed()

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0, *_: Any, **__: Any) -> None:
        """Hold at most ``prefetch_count`` unacknowledged messages; 0 for any number."""
        self.prefetch_count = prefetch_count
        self.connection.wake()

    def flow(self, active: bool = True) -> None:
        """Pause or resume deliveries."""
        self._plan.set_queues(self._by_queue if active else ())

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Message | None:
        """The next message of a queue, claimed for us; None if there is none."""
        claims = self.node.claim_jobs(ClaimPlan.everything([queue]), 1)
        for claim in claims:
            message = self._to_message(claim)
            if message is not None:
                return self._hand_out(message, no_ack)
        for delivery in self._take(no_ack, [queue], 1):
            message = self._from_delivery(delivery)
            if message is not None:
                return self._hand_out(message, no_ack)
        return None

    @property
    def queues(self) -> list[str]:
        """The queues that have a consumer on this channel."""
        return list(self._by_queue)

    @property
    def is_dry(self) -> bool:
        """True when the last look found all that there was."""
        return not self._buffer and self._plan.due_at == float("inf")

    @property
    def buffered(self) -> int:
        """How many claimed jobs wait for room."""
        return len(self._buffer)

    def expect(self, queue: str, *, anywhere: bool = False) -> None:
        """A job stands in this queue; ``anywhere`` in it if it was put back."""
        if queue in self._by_queue:
            if anywhere:
                self._plan.look_again()
            else:
                self._plan.expect(time.monotonic())

    def expect_message(self, queue: str) -> None:
        """A message that is no job stands in this queue."""
        if queue in self._by_queue:
            self._news.add(queue)

    def look_again(self) -> None:
        """Look at everything: time has passed, or somebody might not have told us."""
        self._plan.look_again()
        self._news.update(self._by_queue)

    def room(self) -> int:
        """How many more messages may be delivered."""
        if not self.prefetch_count:
            return self.options.max_claim
        return self.prefetch_count - len(self._unacked)

    def deliver(self, until: float) -> int:
        """Hand out what there is room for until this time, at least one; how many.

        The solo pool runs the task inside: whoever calls must get its turn again.
        """
        delivered = self._deliver_messages()
        if self._finished:
            self._plan.count_finished(self._finished, time.monotonic())
            self._finished = 0
        is_full = True
        while self._by_queue and not self.closed:
            while self._buffer and self.room() > 0:
                if delivered and time.monotonic() >= until:
                    return delivered
                delivered += self._deliver_job(self._buffer.popleft())
            # After a claim that came back short the loop has its turn first: it sends the jobs to
            # the pool's children, and another look would hold them up.
            if self._buffer or not is_full or not self._claim():
                break
            is_full = self._plan.is_full
        return delivered

    def _claim(self) -> bool:
        """Claim what is worth it now; True if there is something to deliver."""
        start = time.monotonic()
        if self._plan.due_at > start:
            return False
        limit = self._plan.limit(self.room(), 0)
        if not limit:
            return False
        buckets = self._plan.buckets(start)
        claims = self.node.claim_jobs(buckets, limit)
        is_told = self.connection.is_asleep
        self._plan.record(limit, claims, start, time.monotonic(), is_told)
        self._buffer.extend(claims)
        if len(claims) >= limit:
            self.connection.stop_sleeping()
        return bool(claims)

    def _deliver_job(self, claim: Claim) -> int:
        consumer = self._by_queue.get(claim.queue)
        message = self._to_message(claim)
        if message is None:
            return 0
        if consumer is None:
            self._release([message])
            return 0
        consumer.callback(self._hand_out(message, consumer.no_ack))
        return 1

    def _deliver_messages(self) -> int:
        delivered = 0
        while self._news and self.room() > 0:
            queues, self._news = self._news, set()
            for no_ack in (True, False):
                wanted = [
                    queue
                    for queue in queues
                    if queue in self._by_queue and self._by_queue[queue].no_ack is no_ack
                ]
                if not wanted:
                    continue
                limit = MESSAGE_BATCH if no_ack else min(self.room(), MESSAGE_BATCH)
                deliveries = self._take(no_ack, wanted, limit)
                if len(deliveries) == limit:
                    self._news.update(wanted)
                for delivery in deliveries:
                    message = self._from_delivery(delivery)
                    consumer = self._by_queue.get(delivery.queue)
                    if message is not None and consumer is not None:
                        consumer.callback(self._hand_out(message, no_ack))
                        delivered += 1
        return delivered

    def _take(self, no_ack: bool, queues: list[str], limit: int) -> list[Delivery]:
        if no_ack:
            return self.database.messages.take_messages(queues, limit)
        return self.node.claim_messages(queues, limit)

    def _to_message(self, claim: Claim) -> Message | None:
        """The job as a message; None, and the row set aside, if it cannot be read."""
        try:
            message = Message(
                self,
                next(self._tags),
                decode_envelope(claim.message, claim.queue),
                claim.body,
                claim.redelivered,
                Fence(self.node.id, claim.attempt),
            )
        except UndecodableRow as error:
            logger.error("job %s of queue %s is set aside: %s", claim.id, claim.queue, error)
            self.node.settle(discarded(claim.id, claim.attempt, error_from(error)))
            return None
        message.claim = claim
        return message

    def _from_delivery(self, delivery: Delivery) -> Message | None:
        try:
            message = Message(
                self,
                next(self._tags),
                decode_envelope(delivery.message, delivery.queue),
                delivery.body,
                delivery.redelivered,
            )
        except UndecodableRow as error:
            logger.error("a message in queue %s is dropped: %s", delivery.queue, error)
            self.node.settle_message(delivery.id)
            return None
        message.row = delivery.id
        return message

    def _hand_out(self, message: Message, no_ack: bool) -> Message:
        if not no_ack:
            self._unacked[message.delivery_tag] = message
        elif message.claim is not None:
            self.node.settle(completed(message.claim.id, message.claim.attempt))
        return message

    # Acknowledge; also called by the threads of a pool

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """The message was dealt with."""
        for message in self._pop_unacked(delivery_tag, multiple):
            claim = message.claim
            if claim is None:
                self.node.settle_message(message.row or 0)
            elif not message.is_tracked:
                # A worker acknowledges what it cannot read; that is no success.
                error = message.unreadable
                self.node.settle(
                    discarded(claim.id, claim.attempt, error_from(error))
                    if error
                    else completed(claim.id, claim.attempt)
                )
        self._made_room()

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """The message was refused: put it back in line, or set it aside."""
        for message in self._pop_unacked(delivery_tag, False):
            claim = message.claim
            if claim is None:
                if requeue:
                    self.node.return_message(message.row or 0)
                else:
                    self.node.settle_message(message.row or 0)
            elif not message.is_settled:
                message.is_settled = True
                if requeue:
                    self.node.settle(requeued(claim.id, claim.attempt))
                    self._plan.look_again()
                else:
                    self.node.settle(
                        discarded(claim.id, claim.attempt, _refusal(message))._replace(is_sole=False)
                    )
        self._made_room()

    def basic_recover(self, requeue: bool = False) -> None:
        """Put back what was delivered and not acknowledged."""
        self._release(list(self._unacked.values()))
        self.look_again()

    def _pop_unacked(self, tag: int, multiple: bool) -> list[Message]:
        tags = [each for each in list(self._unacked) if each <= tag] if multiple else [tag]
        popped = [self._unacked.pop(each, None) for each in tags]
        return [message for message in popped if message is not None]

    def _made_room(self) -> None:
        self._finished += 1
        self.connection.wake()

    # Close

    def close(self) -> None:
        """End the channel: what was not started goes back in line at once.

        What a worker has started stays claimed: it goes on, and its outcome finds another way.
        """
        if self.closed or self._pid != os.getpid():
            self.closed = True
            return
        self.closed = True
        self._consumers.clear()
        self._by_queue = {}
        self.connection.forget_channel(self)
        waiting = [
            message
            for message in self._unacked.values()
            if not (message.is_tracked and message.is_started)
        ]
        if waiting:
            logger.info("Restoring %d unacknowledged message(s)", len(waiting))
        self._release_buffer(list(self._buffer))
        self._release(waiting)
        self._unacked.clear()
        self.node.flush()
        for queue in list(self._own_queues):
            self.queue_delete(queue)

    def abandon(self) -> None:
        """Forget everything: the process has forked, or the server is gone with our session."""
        self.closed = True
        self._buffer.clear()
        self._unacked.clear()

    def _release_buffer(self, claims: list[Claim]) -> None:
        for claim in claims:
            self._buffer.remove(claim)
            self.node.settle(released(claim.id, claim.attempt))
        if claims:
            self.node.flush()
            self.database.jobs.wake_queues({claim.queue for claim in claims})

    def _release(self, messages: list[Message]) -> None:
        queues = set()
        for message in messages:
            self._unacked.pop(message.delivery_tag, None)
            if message.claim is None:
                self.node.return_message(message.row or 0)
            elif not message.is_settled:
                message.is_settled = True
                self.node.settle(released(message.claim.id, message.claim.attempt))
                queues.add(message.claim.queue)
        self.node.flush()
        if queues:
            self.database.jobs.wake_queues(queues)


def _timezone() -> tzinfo:
    """The zone of an eta that names none: the app's."""
    zone: tzinfo = current_app.timezone
    return zone


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000


def _refusal(message: Message) -> str:
    """Why a message was rejected, as an entry of ``errors``."""
    if message.unreadable:
        return error_from(message.unreadable)
    return error_entry("Reject", "rejected by its consumer; the worker's log says why")
