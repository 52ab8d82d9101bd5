"""Take messages that are not jobs for a channel's consumers: replies, broadcasts, events."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING

from ..control.revokes import PIDBOX
from ..db.rows.messages import Delivery
from ..job.envelope import decode_envelope
from ..printable import guarded
from .feed import NEVER, NOW
from .message import Message

if TYPE_CHECKING:
    from .feed import Consumer
    from .host import HostedChannel
    from .qos import QoS

logger = guarded(logging.getLogger(__name__))

#: How many messages one statement takes.
BATCH = 100
#: Seconds between two looks of a worker for events: each of 100 workers hears 50 a second from the
#: others, of which Celery's gossip expects one every 2 seconds.
EVENTS_INTERVAL = 1.0


class Mailbox:
    """The messages of a channel that are not jobs; one thread at a time."""

    def __init__(self, channel: HostedChannel, qos: QoS, tags: Iterator[int]) -> None:
        self._channel = channel
        self._node = channel.node
        self._qos = qos
        self._tags = tags
        #: By queue. Replaced, never changed: a signal handler may cancel while a statement runs.
        self._consumers: Mapping[str, Consumer] = {}
        #: Taken, and on their way.
        self._mail: deque[Delivery] = deque()
        #: Queues with messages, as far as we have heard.
        self._news: set[str] = set()
        #: Events have come, as far as we have heard, and when to look for them.
        self._has_events = False
        self._events_at = float("-inf")

    def consume(self, consumers: Mapping[str, Consumer]) -> None:
        """Deliver to these consumers from now on; look at those queues that are new."""
        before, self._consumers = self._consumers, consumers
        self._news.update(consumers.keys() - before.keys())

    @property
    def is_idle(self) -> bool:
        """True when all that was taken was handed out."""
        return not self._mail

    @property
    def due_at(self) -> float:
        """At once where messages have come, or are on their way; each is announced.

        Events of a worker's when it is time for a look.
        """
        due_at = NOW if self._mail or self._news else self._events_at
        is_due = self._mail or self._news or self._has_events
        return due_at if is_due and self._qos.room() > 0 else NEVER

    def expect(self, queue: str) -> None:
        """A message waits in this queue."""
        if queue in self._consumers:
            self._news.add(queue)

    def expect_events(self) -> None:
        """Events have come, for us or for others: a worker is in no hurry to hear of others."""
        self._has_events = bool(self._event_queues())
        if self._node.event_exchange is None:
            self._events_at = float("-inf")

    def look_again(self) -> None:
        """Look at every queue: a notification may have been lost."""
        self._news.update(self._consumers)

    def release(self, but: Container[str] = ()) -> None:
        """Put back what was taken and not handed out, but for these queues."""
        for delivery in [each for each in self._mail if each.queue not in but]:
            self._mail.remove(delivery)
            self._node.return_message(delivery.id)

    def close(self) -> None:
        """Hand out nothing more; what a statement brings that is under way goes back."""
        self._consumers = {}

    def abandon(self) -> None:
        """Forget everything: the process has forked, and what was taken is the parent's."""
        self.close()
        self._mail.clear()

    def get(self, queue: str, no_ack: bool) -> Message | None:
        """The next message of a queue that can be read, taken and handed out at once."""
        while deliveries := self._take(no_ack, [queue], 1):
            message = self._to_message(deliveries[0])
            if message is not None:
                return self._qos.hand_out(message, no_ack)
        return None

    def deliver(self, until: float) -> int:
        """Hand out messages, and take more, until this time; at least one. How many."""
        delivered = 0
        while (self._mail or self._fetch()) and self._qos.room() > 0:
            if delivered and time.monotonic() >= until:
                break
            delivered += self._deliver_message(self._mail.popleft())
        return delivered

    def _fetch(self) -> bool:
        """Take what has come; True if there is something to deliver."""
        if self._qos.room() <= 0:
            return False
        self._hear_events()
        if not self._news:
            return False
        queues, self._news = self._news, set()
        for no_ack in (True, False):
            consumers = self._consumers
            wanted = [
                queue
                for queue in queues
                if queue in consumers and consumers[queue].no_ack is no_ack
            ]
            if not wanted:
                continue
            limit = BATCH if no_ack else min(self._qos.room(), BATCH)
            try:
                deliveries = self._take(no_ack, wanted, limit)
            except BaseException:
                self._news |= queues
                raise
            if len(deliveries) == limit:
                self._news.update(wanted)
            self._mail.extend(deliveries)
            if not self._consumers:  # they were cancelled meanwhile, by a soft shutdown
                self.release()
        return bool(self._mail)

    def _hear_events(self) -> None:
        if self._has_events and self._events_at <= (now := time.monotonic()):
            self._has_events, self._events_at = False, now + EVENTS_INTERVAL
            self._news.update(self._event_queues())

    def _event_queues(self) -> list[str]:
        """The queues that may have events: those that go with their consumer, or need no answer.

        But for those of remote control.
        """
        passing = self._channel.passing_queues
        return [
            queue
            for queue, each in self._consumers.items()
            if (each.no_ack or queue in passing) and not queue.endswith(PIDBOX)
        ]

    def _take(self, no_ack: bool, queues: list[str], limit: int) -> list[Delivery]:
        if no_ack:
            return self._node.database.messages.take_messages(queues, limit)
        return self._node.claim_messages(queues, limit)

    def _deliver_message(self, delivery: Delivery) -> int:
        consumer = self._consumers.get(delivery.queue)
        if consumer is None:
            self._node.return_message(delivery.id)
            return 0
        message = self._to_message(delivery)
        if message is None:
            return 0
        consumer.callback(self._qos.hand_out(message, consumer.no_ack))
        return 1

    def _to_message(self, delivery: Delivery) -> Message | None:
        """A message that can be delivered; None, and the row dropped, if it cannot be read."""
        try:
            message = Message(
                self._channel,
                next(self._tags),
                decode_envelope(delivery.message, delivery.queue),
                delivery.body or b"",
                delivery.redelivered,
            )
        except Exception as error:
            logger.error("a message in queue %s is dropped: %s", delivery.queue, error)
            self._node.settle_message(delivery.id)
            return None
        message.row = delivery.id
        return message
