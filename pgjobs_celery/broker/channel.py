"""A kombu channel over job rows and message rows.

Light on purpose: kombu's virtual channel costs 52 µs per task in a worker's main process, where a
Celery task costs about 110 µs altogether.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Container, Iterable
from itertools import count
from typing import Any

from ..printable import guarded
from .feed import Consumer, Feed
from .host import Host
from .job_feed import JobFeed
from .mailbox import Mailbox
from .message import Message
from .publish import Publisher
from .qos import RESTORING, QoS
from .topology import Topology

logger = guarded(logging.getLogger(__name__))

_ids = count(1)

#: How often, in seconds, a consumer confirms that it uses a queue that goes when it is not used.
TOUCH_INTERVAL = 30.0


class Channel(Publisher, Topology):
    """Publishes, declares and consumes; one thread at a time, but for acknowledgements."""

    def __init__(self, transport: Host) -> None:
        super().__init__(transport)
        self.channel_id = next(_ids)
        self.closed = False
        self.qos = QoS(self.node, self.options.max_claim)
        self._tags = count(1)
        self.jobs = JobFeed(self, self.qos, self._tags)
        self.mailbox = Mailbox(self, self.qos, self._tags)
        #: In the order of this turn.
        self._feeds: tuple[Feed, Feed] = (self.mailbox, self.jobs)
        self._pid = os.getpid()
        self._consumers: dict[str, Consumer] = {}
        self._by_queue: dict[str, Consumer] = {}
        self._is_flowing = True
        self._touch_at = time.monotonic() + TOUCH_INTERVAL
        self.node.watch(self)

    @property
    def connection(self) -> Host | None:
        """The transport, as kombu knows it; None once the channel is closed."""
        return None if self.closed else self.transport

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
        self._release(but=self._by_queue)

    def _consumers_changed(self) -> None:
        before = set(self._by_queue)
        self._by_queue = {consumer.queue: consumer for consumer in self._consumers.values()}
        left = self.own_queues & (before - self._by_queue.keys())
        self.node.uses.consume(self, tuple(self._by_queue))
        self.node.leave(left)
        if self.own_queues & (self._by_queue.keys() - before):
            self._touch_at = 0.0
        if before != self._by_queue.keys():
            self.node.services.announce()
        self.jobs.consume(self._by_queue, self._job_queues() if self._is_flowing else ())
        self.mailbox.consume(self._by_queue)
        self.transport.queues_changed()

    def _job_queues(self) -> list[str]:
        """The queues that may hold jobs: not those for replies, broadcasts and events."""
        return [
            consumer.queue
            for consumer in self._by_queue.values()
            if not (consumer.no_ack and consumer.queue in self.own_queues)
        ]

    @property
    def queues(self) -> list[str]:
        """The queues that have a consumer on this channel."""
        return list(self._by_queue)

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, *_: Any, **__: Any
    ) -> None:
        """Hold at most ``prefetch_count`` unacknowledged messages; 0 for any number."""
        self.qos.prefetch_count = prefetch_count
        self.transport.wake()

    def flow(self, active: bool = True) -> None:
        """Pause or resume deliveries."""
        self._is_flowing = active
        self._consumers_changed()

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Message | None:
        """The next message of a queue, claimed for us; None if there is none."""
        return self.jobs.get(queue, no_ack) or self.mailbox.get(queue, no_ack)

    # Acknowledge

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """The message was dealt with."""
        self.qos.ack(delivery_tag, multiple)
        self._made_room()

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """The message was refused: put it back in line, or set it aside."""
        if self.qos.reject(delivery_tag, requeue):
            self.jobs.look_again()
        self._made_room()

    def _made_room(self) -> None:
        self.jobs.acknowledged += 1
        self.transport.wake()

    def basic_recover(self, requeue: bool = False) -> None:
        """Put back what was delivered and not acknowledged."""
        self.qos.give_back(list(self.qos.unacked.values()))
        self.node.flush()
        self.jobs.look_again()
        self.mailbox.look_again()

    def give_back(self, messages: Iterable[Message]) -> int:
        """Put back what was handed out and has neither begun nor been acknowledged; how many."""
        return self.qos.give_back(messages)

    # Deliver

    @property
    def is_idle(self) -> bool:
        """True when the last look found all that there was, or another is not worth it now."""
        return self.jobs.is_idle and self.mailbox.is_idle

    @property
    def due_at(self) -> float:
        """When a turn would find something to hand out, or a look is worth its price."""
        return min(self.jobs.due_at, self.mailbox.due_at)

    def deliver(self, until: float) -> int:
        """Hand out what there is room for until this time, at least one; how many.

        The solo pool runs the task inside: the caller must get its turn again.
        """
        if self.node.is_fenced:
            # Others may be about to take what we hold: what has not begun is let go of.
            self._release()
            return 0
        if self.passing_queues and time.monotonic() >= self._touch_at:
            self._touch_at = time.monotonic() + TOUCH_INTERVAL
            if used := self.passing_queues.intersection(self._by_queue):
                self.database.routes.touch_queues(used, self.node.id)
        # In turns: neither jobs nor other messages keep the others waiting.
        second, first = self._feeds
        self._feeds = first, second
        delivered = first.deliver(until)
        if not delivered or time.monotonic() < until:
            delivered += second.deliver(until)
        return delivered

    # For the node, from any thread

    def place_freed(self, queue: str) -> None:
        """A job of a queue with a limit has ended."""
        self.jobs.place_freed(queue)
        self.transport.wake()

    def verify_queues(self) -> None:
        """Queues of ours may have been taken away, with us taken for dead."""
        self._touch_at = 0.0
        self.transport.wake()

    def neglected(self, seconds: float) -> list[str]:
        """The queues for which there is room, and that were not looked at for so long."""
        return self.jobs.neglected(seconds)

    def waiting(self) -> list[tuple[int, int]]:
        """The jobs that wait here for room, or are not acknowledged, and their attempts."""
        claims = [*self.jobs.waiting(), *(each.claim for each in list(self.qos.unacked.values()))]
        return [(claim.id, claim.attempt) for claim in claims if claim is not None]

    def reconnect(self, why: str) -> None:
        """Give the connection up for lost."""
        self.transport.fail(why)

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
        for feed in self._feeds:
            feed.close()
        self.transport.forget_channel(self)
        delivered = list(self.qos.unacked.values())
        count = self.qos.give_back(each for each in delivered if not each.is_with_others)
        if count := count + self.jobs.buffered:
            logger.info(RESTORING, count)
        self._release()
        return [message for message in delivered if message.claim and not message.is_settled]

    def abandon(self) -> None:
        """Forget everything: the process has forked, and the claims are the parent's."""
        self.closed = True
        self.qos.unacked.clear()
        for feed in self._feeds:
            feed.abandon()

    def _release(self, but: Container[str] = ()) -> None:
        """Put back what waits for room, but for these queues."""
        for feed in self._feeds:
            feed.release(but)
