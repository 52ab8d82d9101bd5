"""A kombu channel over job rows and message rows.

Light on purpose: kombu's virtual channel costs 52 µs per task in a worker's main process, where a
Celery task costs about 110 µs altogether.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from ..db.rows.messages import Delivery
from ..job.envelope import decode_envelope
from ..job.held_claim import HeldClaim
from ..job.outcome import cancelled, completed, discarded, error_from, released
from ..job.rows import Cancellation, Claim, Fence
from ..printable import guarded
from .acknowledging import RESTORING, Acknowledger
from .claim_plan import ClaimPlan
from .message import Message

if TYPE_CHECKING:
    from ..node.pool import Pool
    from .host import Host

logger = guarded(logging.getLogger(__name__))

_ids = count(1)

#: How often, in seconds, a consumer says that it still uses a queue that goes when it is not used.
TOUCH_INTERVAL = 30.0
#: How many messages that are not jobs one statement takes.
MESSAGE_BATCH = 100


class Consumer(NamedTuple):
    """A consumer of a queue's messages."""

    queue: str
    callback: Callable[[Message], Any]
    no_ack: bool


class QoS:
    """The part of a channel's prefetching that kombu and Celery look at."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def prefetch_count(self) -> int:
        """How many unacknowledged messages a channel may hold; 0 for any number."""
        return self._channel.prefetch_count

    def can_consume(self) -> bool:
        """True while another message may be delivered."""
        return self._channel.room() > 0


class Channel(Acknowledger):
    """Publishes, declares and consumes; one thread at a time, but for acknowledgements."""

    def __init__(self, transport: Host) -> None:
        super().__init__(transport)
        self.channel_id = next(_ids)
        self.prefetch_count = 0
        self.qos = QoS(self)
        self.closed = False
        self._pid = os.getpid()
        self._tags = count(1)
        self._consumers: dict[str, Consumer] = {}
        self._by_queue: dict[str, Consumer] = {}
        self._plan = ClaimPlan(self.options.max_claim, self.node.read_ahead)
        self._buffer: deque[Claim] = deque()
        #: Messages that are not jobs, on their way.
        self._mail: deque[Delivery] = deque()
        self._is_jobs_turn = False
        self._is_flowing = True
        self._touch_at = time.monotonic() + TOUCH_INTERVAL
        #: Queues with messages that are not jobs, as far as we have heard.
        self._news: set[str] = set()
        #: Queues with a limit in which a job has ended.
        self._freed: deque[str] = deque()
        #: When it was last looked for jobs, or there was no room for any.
        self._looked_at = time.monotonic()
        self.node.watch(self)

    @property
    def connection(self) -> Host | None:
        """The transport, as kombu knows it; None once the channel is closed."""
        return None if self.closed else self.transport

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
        queue = self.node.mailboxes.name(queue)
        self._consumers[tag] = Consumer(queue, callback or (lambda message: None), no_ack)
        self._consumers_changed()
        return tag

    def basic_cancel(self, consumer_tag: str, **_: Any) -> None:
        """Deliver no more to this consumer; what was claimed for it goes back in line."""
        consumer = self._consumers.pop(consumer_tag, None)
        if consumer is None:
            return
        # Not written here: Celery cancels in a signal handler, which may have interrupted a claim.
        self._consumers_changed()
        self._release_buffer()

    def _consumers_changed(self) -> None:
        before = set(self._by_queue)
        self._by_queue = {consumer.queue: consumer for consumer in self._consumers.values()}
        self._news.update(set(self._by_queue) - before)
        left = self.own_queues & (before - self._by_queue.keys())
        self.node.uses.consume(self, tuple(self._by_queue))
        self.node.leave(left)
        if self.own_queues & (self._by_queue.keys() - before):
            self._touch_at = 0.0
        if before != self._by_queue.keys():
            self.node.services.announce()
        self._looked_at = time.monotonic()
        self._plan.set_queues(self._job_queues() if self._is_flowing else ())
        self.transport.queues_changed()

    def _job_queues(self) -> list[str]:
        """The queues that may hold jobs: not those for replies, broadcasts and events."""
        return [
            consumer.queue
            for consumer in self._by_queue.values()
            if not (consumer.no_ack and consumer.queue in self.own_queues)
        ]

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, *_: Any, **__: Any
    ) -> None:
        """Hold at most ``prefetch_count`` unacknowledged messages; 0 for any number."""
        self.prefetch_count = prefetch_count
        self.transport.wake()

    def flow(self, active: bool = True) -> None:
        """Pause or resume deliveries."""
        self._is_flowing = active
        self._consumers_changed()

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Message | None:
        """The next message of a queue, claimed for us; None if there is none."""
        # A channel that only gets hears of no limit.
        self.node.limits.is_stale = True
        self.node.places()
        while claims := self.node.claim_jobs(ClaimPlan.everything([queue]), 1, for_pool=False):
            message = self._to_message(claims[0])
            if message is not None:
                self._hand_out(message, no_ack)
                self.keep(message, claims[0])
                return message
        while deliveries := self._take(no_ack, [queue], 1):
            message = self._from_delivery(deliveries[0])
            if message is not None:
                return self._hand_out(message, no_ack)
        return None

    @property
    def queues(self) -> list[str]:
        """The queues that have a consumer on this channel."""
        return list(self._by_queue)

    @property
    def is_idle(self) -> bool:
        """True when the last look found all that there was, or another is not worth it now."""
        if self._buffer or self._mail:
            return False
        return self._plan.is_dry or self._plan.due_at > time.monotonic()

    @property
    def due_at(self) -> float:
        """When the next claim is worth its price, by the monotonic clock; infinite for not now."""
        return self._plan.due_at if self._job_room() > 0 else float("inf")

    @property
    def buffered(self) -> int:
        """How many claimed jobs wait for room."""
        return len(self._buffer)

    def expect(self, queue: str, *, anywhere: bool = False) -> None:
        """A job waits in this queue; ``anywhere`` in it if it was put back."""
        if queue in self._by_queue:
            if anywhere:
                self._plan.look_again()
            else:
                self._plan.expect(time.monotonic(), queue)

    def place_freed(self, queue: str) -> None:
        """A job of a queue with a limit has ended; called from any thread."""
        self._freed.append(queue)
        self.transport.wake()

    def verify_queues(self) -> None:
        """Queues of ours may have been taken away, with us taken for dead; from any thread."""
        self._touch_at = 0.0
        self.transport.wake()

    def neglected(self, seconds: float) -> list[str]:
        """The queues for which there is room, and that were not looked at for so long.

        Called from any thread.
        """
        pool = self.node.pool
        if (
            self.closed
            or pool is None
            or self.node.holdings.in_pool >= pool.capacity
            or self.room() <= 0
            or self.node.is_fenced
            or time.monotonic() - self._looked_at < seconds
        ):
            return []
        return [queue for queue in self._plan.queues if queue not in self.node.limits]

    def waiting(self) -> list[tuple[int, int]]:
        """The jobs that wait here for room, or are not acknowledged; from any thread."""
        claims = [*list(self._buffer), *(each.claim for each in list(self.unacked.values()))]
        return [(claim.id, claim.attempt) for claim in claims if claim is not None]

    def reconnect(self, why: str) -> None:
        """Give the connection up for lost; called from any thread."""
        self.transport.fail(why)

    def drop(self, cancellation: Cancellation) -> bool:
        """Keep a job that waits here for room from beginning; False if it does not wait here."""
        claim = next((each for each in self._buffer if each.id == cancellation.id), None)
        if claim is None:
            return False
        self._buffer.remove(claim)
        outcome = cancelled(claim, cancellation.reason)
        self.node.settle(outcome._replace(awaited=cancellation.task_id))
        return True

    def expect_message(self, queue: str) -> None:
        """A message that is not a job waits in this queue."""
        if queue in self._by_queue:
            self._news.add(queue)

    def look_again(self, *, messages: bool = True) -> None:
        """Look at everything: time has passed, or a notification may have been lost."""
        self._plan.look_again()
        if messages:
            self._news.update(self._by_queue)

    def look_once_more(self) -> None:
        """From now on we are told: what came before is there to be seen."""
        if self._plan.is_dry:
            self.look_again()
        else:
            # Above the floors: a look below them is due, and waits for its turn.
            self._plan.expect(time.monotonic())
            self._news.update(self._by_queue)

    def room(self) -> int:
        """How many more messages may be delivered."""
        if not self.prefetch_count:
            return self.options.max_claim
        return self.prefetch_count - len(self.unacked)

    def _job_room(self) -> int:
        """How many more jobs may be: no more than a worker's pool can begin, if it gets them."""
        room = self.room()
        if room > 0 and (pool := self._fed_pool()) is not None:
            in_pool = self.node.holdings.in_pool - len(self._buffer)
            room = min(room, pool.capacity + self._plan.ahead - in_pool)
        return room

    def _fed_pool(self) -> Pool | None:
        """The pool that runs what is claimed here; None where consumers deal with it themselves."""
        pool = self.node.pool
        return pool if pool is not None and pool.is_fed_by(self) else None

    def deliver(self, until: float) -> int:
        """Hand out what there is room for until this time, at least one; how many.

        The solo pool runs the task inside: the caller must get its turn again.
        """
        if self.node.is_fenced:
            # Others may be about to take what we hold: what has not begun is let go of.
            self._release_buffer(everything=True)
            return 0
        if self.passing_queues and time.monotonic() >= self._touch_at:
            self._touch_at = time.monotonic() + TOUCH_INTERVAL
            if used := self.passing_queues.intersection(self._by_queue):
                self.database.routes.touch_queues(used, self.node.id)
        if self.finished:
            self._plan.count_finished(self.finished, time.monotonic())
            self.finished = 0
        while self._freed:
            self._plan.place_freed(self._freed.popleft())
        # In turns: neither jobs nor other messages keep the others waiting.
        self._is_jobs_turn = not self._is_jobs_turn
        first, second = self._deliver_jobs, self._deliver_messages
        if not self._is_jobs_turn:
            first, second = second, first
        delivered = first(until)
        return delivered if delivered and time.monotonic() >= until else delivered + second(until)

    def _deliver_jobs(self, until: float) -> int:
        delivered = 0
        is_full = True
        while self._by_queue and not self.closed:
            while self._buffer and self._job_room() > 0:
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
        limit = self._plan.limit(self._job_room(), 0)
        buckets = self._plan.buckets(start, self.node.places()) if limit else []
        claims = (
            self.node.claim_jobs(buckets, limit, for_pool=self._fed_pool() is not None)
            if buckets
            else []
        )
        self._looked_at = time.monotonic()
        if not buckets:
            return False
        was_full = self._plan.is_full
        self._plan.record(limit, claims, start, time.monotonic(), self.node.limits.full)
        self._buffer.extend(claims)
        if self.closed:  # meanwhile, by a soft shutdown
            self._release_buffer()
            return False
        if was_full and self._plan.is_full:
            self.transport.stop_sleeping()
        return bool(claims)

    def _deliver_job(self, claim: Claim) -> int:
        consumer = self._by_queue.get(claim.queue)
        message = self._to_message(claim)
        if message is None:
            return 0
        if consumer is None:
            self.give_back([message])
            return 0
        consumer.callback(self._hand_out(message, consumer.no_ack))
        if not message.is_tracked:
            self.keep(message, claim)
        return 1

    def _deliver_messages(self, until: float) -> int:
        delivered = 0
        while (self._mail or self._fetch_mail()) and self.room() > 0:
            if delivered and time.monotonic() >= until:
                break
            delivered += self._deliver_message(self._mail.popleft())
        return delivered

    def _fetch_mail(self) -> bool:
        """Take what has come; True if there is something to deliver."""
        if not self._news or self.room() <= 0:
            return False
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
            try:
                deliveries = self._take(no_ack, wanted, limit)
            except BaseException:
                self._news |= queues
                raise
            if len(deliveries) == limit:
                self._news.update(wanted)
            self._mail.extend(deliveries)
            if self.closed:
                self._release_buffer()
        return bool(self._mail)

    def _deliver_message(self, delivery: Delivery) -> int:
        consumer = self._by_queue.get(delivery.queue)
        if consumer is None:
            self.node.return_message(delivery.id)
            return 0
        message = self._from_delivery(delivery)
        if message is None:
            return 0
        consumer.callback(self._hand_out(message, consumer.no_ack))
        return 1

    def _take(self, no_ack: bool, queues: list[str], limit: int) -> list[Delivery]:
        if no_ack:
            return self.database.messages.take_messages(queues, limit)
        return self.node.claim_messages(queues, limit)

    def _to_message(self, claim: Claim) -> Message | None:
        """The job as a message; None, and the row set aside, if it cannot be read or comes late."""
        try:
            message = Message(
                self,
                next(self._tags),
                decode_envelope(claim.message, claim.queue),
                claim.body or b"",
                claim.redelivered,
                HeldClaim(
                    Fence(self.node.id, claim.attempt), self.database.key, claim.max_attempts
                ),
            )
        except Exception as error:
            logger.error("job %s of queue %s is set aside: %s", claim.id, claim.queue, error)
            self.node.settle(discarded(claim, error_from(error)))
            return None
        message.claim = claim
        if claim.expires_in is not None:
            if claim.expires_in <= 0 and message.headers.get("expires") is None:
                # Of an expiry of its own Celery's worker says something.
                self._expire(message, claim)
                return None
            message.expires_at = time.monotonic() + claim.expires_in
        return message

    def _expire(self, message: Message, claim: Claim) -> None:
        outcome = cancelled(claim, "expired: its queue held it for too long")
        self.node.settle(outcome._replace(awaited=str(message.headers.get("id"))))

    def _from_delivery(self, delivery: Delivery) -> Message | None:
        try:
            message = Message(
                self,
                next(self._tags),
                decode_envelope(delivery.message, delivery.queue),
                delivery.body or b"",
                delivery.redelivered,
            )
        except Exception as error:
            logger.error("a message in queue %s is dropped: %s", delivery.queue, error)
            self.node.settle_message(delivery.id)
            return None
        message.row = delivery.id
        return message

    def _hand_out(self, message: Message, no_ack: bool) -> Message:
        if not no_ack:
            self.unacked[message.delivery_tag] = message
        elif message.claim is not None:
            self.node.settle(completed(message.claim))
        return message

    def basic_recover(self, requeue: bool = False) -> None:
        """Put back what was delivered and not acknowledged."""
        self.give_back(list(self.unacked.values()))
        self.node.flush()
        self.look_again()

    # Close

    def close(self) -> None:
        """End the channel: jobs that have not started go back in line at once.

        A job that a worker has started stays claimed: it goes on, and its outcome is written later.
        """
        if self.closed or self._pid != os.getpid():
            self.closed = True
            return
        self.let_go()
        self.node.flush()

    def let_go(self) -> list[Message]:
        """As :meth:`close`, without the server: the node writes it when it can.

        Returns what stays with the pool, or with others, which run it or will.
        """
        self.closed = True
        self.node.uses.consume(self, ())
        self.node.leave(self.own_queues & self._by_queue.keys())
        self._consumers.clear()
        self._by_queue = {}
        self.transport.forget_channel(self)
        delivered = list(self.unacked.values())
        count = self.give_back(each for each in delivered if not each.is_with_others)
        if count := count + len(self._buffer):
            logger.info(RESTORING, count)
        self._release_buffer()
        return [message for message in delivered if message.claim and not message.is_settled]

    def abandon(self) -> None:
        """Forget everything: the process has forked, and the claims are the parent's."""
        self.closed = True
        self._buffer.clear()
        self._mail.clear()
        self.unacked.clear()

    def _release_buffer(self, *, everything: bool = False) -> None:
        """Put back what was taken for queues that have no consumer any more, or all of it."""
        kept = () if everything else self._by_queue
        for claim in [each for each in self._buffer if each.queue not in kept]:
            self._buffer.remove(claim)
            self.node.settle(released(claim))
        for delivery in [each for each in self._mail if each.queue not in kept]:
            self._mail.remove(delivery)
            self.node.return_message(delivery.id)
