"""Claim jobs ahead of a channel's consumers, and hand them out as there is room."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..job.envelope import decode_envelope
from ..job.outcome import cancelled, discarded, error_from, released
from ..job.rows import Bucket, Cancellation, Claim
from ..printable import guarded
from .claim_plan import LANES_AHEAD, ClaimPlan
from .feed import NEVER, NOW
from .lane_plan import LanePlan
from .message import Message

if TYPE_CHECKING:
    from ..node.pool import Pool
    from .feed import Consumer
    from .host import HostedChannel
    from .qos import QoS

logger = guarded(logging.getLogger(__name__))


class Look(NamedTuple):
    """A claim that was started: how many jobs it asked for, where, and when."""

    limit: int
    buckets: Sequence[Bucket]
    start: float


class JobFeed:
    """The jobs of a channel: one thread at a time, but for the methods that say otherwise."""

    def __init__(self, channel: HostedChannel, qos: QoS, tags: Iterator[int]) -> None:
        self._channel = channel
        self._host = channel.transport
        self._node = channel.node
        self._qos = qos
        self._tags = tags
        #: By queue. Replaced, never changed: a signal handler may cancel while a claim runs.
        self._consumers: Mapping[str, Consumer] = {}
        self._plan = ClaimPlan(channel.options.max_claim, self._node.read_ahead)
        self._lanes = LanePlan()
        self._buffer: deque[Claim] = deque()
        #: Queues with a limit in which a job has ended.
        self._freed: deque[str] = deque()
        #: How many messages were acknowledged since the plan last counted them.
        self.acknowledged = 0
        #: When it last looked for jobs, or had no room for any.
        self._looked_at = time.monotonic()

    def consume(self, consumers: Mapping[str, Consumer], queues: Iterable[str]) -> None:
        """Deliver to these consumers from now on, and claim from these queues."""
        self._consumers = consumers
        self._looked_at = time.monotonic()
        self._plan.set_queues(queues)

    @property
    def is_idle(self) -> bool:
        """True when the last look found all that there was, or another is not worth it now."""
        if self._buffer:
            return False
        now = time.monotonic()
        return self._lanes.due_at > now and (self._plan.is_dry or self._plan.due_at > now)

    @property
    def due_at(self) -> float:
        """When there is something to hand out, or a claim is worth its price."""
        # First: there is nothing for most channels, most of the time.
        due_at = NOW if self._buffer else min(self._plan.due_at, self._lanes.due_at)
        return due_at if due_at == NEVER or (self._consumers and self._room() > 0) else NEVER

    @property
    def buffered(self) -> int:
        """How many claimed jobs wait for room."""
        return len(self._buffer)

    @property
    def will_claim(self) -> bool:
        """True where a claim is close, to take outcomes along: once the jobs that wait here have
        room, or one more has ended.

        The last one found as much as it asked for, and while the pool has no place more jobs wait
        for one (a prefork pool's in Celery's semaphore, outside of it). If all that it runs takes
        long after all, outcomes are written without a claim.
        """
        if self._buffer:
            return True
        is_full = self._plan.is_full or self._lanes.is_full
        pool = self._fed_pool() if is_full and self._consumers else None
        return pool is not None and self._node.holdings.in_pool >= pool.capacity < self._node.held

    def expect(self, queue: str, *, anywhere: bool = False) -> None:
        """A job waits in this queue; ``anywhere`` in it if it was put back."""
        if queue in self._consumers:
            if anywhere:
                self._plan.look_again()
            else:
                self._plan.expect(time.monotonic(), queue)
            self._lanes.expect(time.monotonic(), queue)

    def look_again(self, *, has_news: bool = True) -> None:
        """Look at everything; without news time has passed, or a notification may be lost."""
        self._plan.look_again(has_news=has_news)
        self._lanes.look_again()

    def look_once_more(self) -> None:
        """Look at what came before our announcement: it was not announced to us."""
        self._lanes.look_again()
        if self._plan.is_dry:
            self._plan.look_again()
        else:
            # Above the floors: a look below them is due, and waits for its turn.
            self._plan.expect(time.monotonic())

    @property
    def has_queues(self) -> bool:
        """True while jobs are claimed from some queue."""
        return bool(self._plan.queues)

    @property
    def open_queues(self) -> list[str]:
        """The queues that jobs are claimed from, while there is room for one."""
        queues = self._plan.queues
        return queues if queues and not self._node.is_fenced and self._room() > 0 else []

    def may_claim(self, queue: str) -> bool:
        """True if a job of this queue would be claimed now."""
        return queue in self.open_queues and self._plan.is_open(queue)

    def place_freed(self, queue: str) -> None:
        """A job of a queue with a limit has ended; called from any thread."""
        self._freed.append(queue)

    def neglected(self, seconds: float) -> list[str]:
        """The queues for which there is room, and that were not looked at for so long.

        Called from any thread.
        """
        pool = self._node.pool
        if (
            not self._consumers
            or pool is None
            or self._node.holdings.in_pool >= pool.capacity
            or self._qos.room() <= 0
            or self._node.is_fenced
            or time.monotonic() - self._looked_at < seconds
        ):
            return []
        return [queue for queue in self._plan.queues if queue not in self._node.limits]

    def waiting(self) -> list[Claim]:
        """The jobs that wait here for room; called from any thread."""
        return list(self._buffer)

    def drop(self, cancellation: Cancellation) -> bool:
        """Keep a job that waits here for room from beginning; False if it does not wait here."""
        claim = next((each for each in self._buffer if each.id == cancellation.id), None)
        if claim is None:
            return False
        self._buffer.remove(claim)
        outcome = cancelled(claim, cancellation.reason)
        self._node.settle(outcome._replace(awaited=cancellation.task_id))
        return True

    def release(self, but: Container[str] = ()) -> None:
        """Put back what was claimed and not handed out, but for these queues."""
        for claim in [each for each in self._buffer if each.queue not in but]:
            self._buffer.remove(claim)
            self._node.settle(released(claim))

    def close(self) -> None:
        """Hand out nothing more; what a statement brings that is under way goes back."""
        self._consumers = {}

    def abandon(self) -> None:
        """Forget everything: the process has forked, and the claims are the parent's."""
        self.close()
        self._buffer.clear()

    def get(self, queue: str, no_ack: bool) -> Message | None:
        """The next job of a queue that can be read, claimed and handed out at once."""
        # A channel that only gets hears of no limit.
        self._node.limits.expire()
        self._node.places()
        while claims := self._claim_one(queue):
            message = self._to_message(claims[0])
            if message is not None:
                self._qos.hand_out(message, no_ack)
                self._qos.keep(message, claims[0])
                return message
        return None

    def _claim_one(self, queue: str) -> list[Claim]:
        node = self._node
        is_sorted = node.limits.is_sorted(queue)
        line = [] if is_sorted else ClaimPlan.everything([queue])
        while line and not (claims := node.claim_jobs(line, 1, for_pool=False)):
            if not node.parking.has_parked():
                break
        if line and claims:
            return claims
        found = node.lanes.take_found()
        if not is_sorted and (found is None or not found[1]):
            return []
        bucket = Bucket(queue, is_laned=True, is_sorted=is_sorted)
        while not (claims := node.claim_jobs([bucket], 1, for_pool=False)):
            look = node.lanes.look
            if look is None or not (look.is_full or node.parking.has_parked()):
                break
            bucket = bucket._replace(gates=look.gates)
        return claims

    # Deliver

    def deliver(self, until: float) -> int:
        """Hand out jobs, and claim more, until this time; at least one. How many."""
        if self.acknowledged:
            self._plan.count_finished(self.acknowledged, time.monotonic())
            self.acknowledged = 0
        while self._freed:
            queue = self._freed.popleft()
            self._plan.place_freed(queue)
            self._lanes.job_ended(time.monotonic(), queue)
        delivered = 0
        is_full = True
        while self._consumers:
            # What a job makes free while it is handed out is counted when the room is used up.
            while self._buffer and (room := self._room()) > 0:
                while self._buffer and room > 0:
                    if delivered and time.monotonic() >= until:
                        return delivered
                    room -= 1
                    delivered += self._deliver_job(self._buffer.popleft())
            # After a claim that came back short the loop has its turn first: it sends the jobs to
            # the pool's children, and another look would hold them up.
            if self._buffer or not is_full or not self._claim():
                break
            is_full = self._lanes.is_full if self._lanes.had_turn else self._plan.is_full
        return delivered

    def _room(self) -> int:
        """How many more jobs may be: no more than a worker's pool can begin, if it gets them."""
        room = self._qos.room()
        if room > 0 and (pool := self._fed_pool()) is not None:
            in_pool = self._node.holdings.in_pool - len(self._buffer)
            room = min(room, pool.capacity + self._plan.ahead - in_pool)
        return room

    def _fed_pool(self) -> Pool | None:
        """The pool that runs what is claimed here; None where consumers deal with it themselves."""
        pool = self._node.pool
        return pool if pool is not None and pool.is_fed_by(self._channel) else None

    def _claim(self) -> bool:
        """Claim what is worth it now; True if there is something to deliver."""
        look = self._start_claim()
        if look is None:
            return False
        for_pool = self._fed_pool() is not None
        claims = self._node.claim_jobs(look.buckets, look.limit, for_pool=for_pool)
        known = self._node.lanes
        if (found := known.take_found()) is not None:
            asked, laned = found
            self._lanes.know(laned, asked)
        has_found = self._take_claims(look, claims)
        if self._node.parking.has_parked():
            self.look_again()  # behind those that were parked
        return has_found

    def _start_claim(self) -> Look | None:
        """Decide what to claim now; None if no claim is worth its price."""
        start = time.monotonic()
        is_due = self._plan.due_at <= start
        if not is_due and self._lanes.due_at > start:
            return None
        room = self._room()
        limit = self._plan.limit(room)
        buckets: Sequence[Bucket] = ()
        if limit:
            places = self._node.places()
            limits = self._node.limits
            in_lanes = (
                [q for q in self._plan.queues if limits.is_sorted(q)] if limits.sorted else []
            )
            self._lanes.sort(in_lanes)
            # The line and the lanes take turns.
            if self._lanes.due_at <= start and not (is_due and self._lanes.had_turn):
                lanes = self._lanes.choose(start, places)
                buckets = [lanes] if lanes is not None else ()
            self._lanes.had_turn = bool(buckets)
            if buckets:
                limit = self._plan.limit(room, LANES_AHEAD)
            if not buckets and is_due:
                if in_lanes:
                    places = {**places, **dict.fromkeys(in_lanes, 0)}
                buckets = self._plan.buckets(start, places)
        if not buckets:
            self._looked_at = time.monotonic()
            return None
        # Not from before the limits were read: a full look follows after a multiple of its time.
        return Look(limit, buckets, time.monotonic())

    def _take_claims(self, look: Look, claims: Sequence[Claim]) -> bool:
        """Learn from a claim, and buffer what it brought; True if there is something to deliver."""
        self._looked_at = end = time.monotonic()
        was_full = self._plan.is_full
        if look.buckets[0].is_laned:
            lanes = self._node.lanes.look
            if lanes is not None and lanes.queue == look.buckets[0].queue:
                self._lanes.record(lanes, end)
        else:
            self._plan.record(look.limit, claims, look.start, end, self._node.limits.full)
        sleep = self._host.sleep
        if claims:
            sleep.has_found_jobs = True
        if sleep.bell:
            sleep.bell.meet(claims, self._plan.queues if self._plan.is_dry else ())
        self._buffer.extend(claims)
        if not self._consumers:  # they were cancelled meanwhile, by a soft shutdown
            self.release()
            return False
        if was_full and self._plan.is_full:
            sleep.end()
        return bool(claims)

    def _deliver_job(self, claim: Claim) -> int:
        consumer = self._consumers.get(claim.queue)
        message = self._to_message(claim)
        if message is None:
            return 0
        if consumer is None:
            self._qos.give_back([message])
            return 0
        consumer.callback(self._qos.hand_out(message, consumer.no_ack))
        if not message.is_tracked:
            self._qos.keep(message, claim)
        return 1

    def _to_message(self, claim: Claim) -> Message | None:
        """The job as a message; None, and the row set aside, if it cannot be read or comes late."""
        node = self._node
        try:
            message = Message(
                self._channel,
                next(self._tags),
                decode_envelope(claim.message, claim.queue),
                claim.body or b"",
                claim.redelivered,
                claim,
            )
        except Exception as error:
            logger.error("job %s of queue %s is set aside: %s", claim.id, claim.queue, error)
            node.settle(discarded(claim, error_from(error)))
            return None
        if claim.expires_in is not None:
            if claim.expires_in <= 0 and message.headers.get("expires") is None:
                # Celery's worker reports an expiry of the message's own.
                self._expire(message, claim)
                return None
            message.expires_at = time.monotonic() + claim.expires_in
        return message

    def _expire(self, message: Message, claim: Claim) -> None:
        outcome = cancelled(claim, "expired: its queue held it for too long")
        self._node.settle(outcome._replace(awaited=str(message.headers.get("id"))))
