"""Decide where and how much to claim next; nothing here touches the database.

A claim starts at a floor: the place in line below which nothing was ready. A job that
becomes ready later stands behind it, unless it was committed late or put back, so a look without
floors follows whenever a claim comes back short, and now and then under load.

A queue with a limit has one bucket, for a limit must not count once for each priority: it takes its
turn among the queues by the most urgent priority that was met in it. A free slot is a
reason to look at that queue alone, above its floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from ..job.rows import FIRST_PLACE, HIGHEST_RANK, Bucket, Claim

#: A full look follows the last one after this many times its own duration: at most 2 percent.
FULL_LOOK_SPACING = 50
#: Under load a full look is due this often, in seconds.
FULL_LOOK_INTERVAL = 1.0
#: How long after a look that found too little it is repeated, in seconds: a row that somebody has
#: locked is passed over, and its release is not announced (a retry that is recorded just when
#: its job is in line again; a hand that cancels and thinks better of it).
ECHOES = (0.02, 0.2)
#: How long a queue with a limit for all workers that came back short is left alone while others are
#: claimed from, in seconds: one claim at a time locks it, until its commit.
SHARED_INTERVAL = 0.05
#: A look at lanes costs a few claims from the line: it takes as many times what is finished within
#: ``read_ahead``.
LANES_AHEAD = 5
#: At how many buckets a claim looks at most while each brings as much as it asks for. To hand over
#: those of 1,000 queues takes 4 ms here, for the few jobs that the pool has room for.
PART = 64
#: No queue is limited.
NO_LIMITS: Mapping[str, Any] = MappingProxyType({})
#: Over how long the rate of finished jobs is averaged, in seconds.
RATE_PERIOD = 0.1


class ClaimPlan:
    """The floors, the rate and the appetite of one channel. Times are monotonic seconds."""

    def __init__(self, max_claim: int, read_ahead: float, part: int = PART) -> None:
        self._max_claim = max_claim
        self._part = part
        self._read_ahead = read_ahead
        self._queues: list[str] = []
        self._floors: dict[str, dict[int, int]] = {}
        #: The buckets above them, of queues without a limit; those that have not changed.
        self._above: dict[str, list[Bucket]] = {}
        self._last_full = float("-inf")
        self._next_full = float("-inf")
        self._is_everything = False
        #: The last claim came back with as much as it asked for.
        self.is_full = False
        self._rate = 0.0
        self._finished = 0
        self._rate_from = 0.0
        #: The last look was at everything, and found all that there was.
        self.is_dry = False
        self._echoes = 0
        self._due_at = float("inf")
        #: Queues that had no place left when they were looked at last, and those of them that have.
        self._blocked: set[str] = set()
        self._freed: set[str] = set()
        #: Until when queues with a limit for all workers are left alone.
        self._alone_until: dict[str, float] = {}
        #: Queues that came back short when they were looked at above their floors.
        self._short: set[str] = set()
        #: The look that is under way, and whether it is at queues with freed places only.
        self._look: list[Bucket] = []
        self._is_for_freed = False
        #: It leaves the rest of the buckets for the next one.
        self._has_rest = False

    @property
    def due_at(self) -> float:
        """When the next claim is worth its price; infinite while there is nothing to expect."""
        return float("-inf") if self._freed else self._due_at

    def set_queues(self, queues: Iterable[str]) -> None:
        """Claim from these from now on, beginning with a look at all of them."""
        self._queues = list(queues)
        self._floors = {queue: self._floors.get(queue, {}) for queue in self._queues}
        self._above.clear()
        self.look_again()

    @staticmethod
    def everything(queues: Iterable[str]) -> list[Bucket]:
        """A look at all of these, from the start."""
        return [Bucket(queue) for queue in queues]

    @property
    def queues(self) -> list[str]:
        """The queues that are claimed from."""
        return list(self._queues)

    def is_open(self, queue: str) -> bool:
        """False for a queue in which as many jobs run as may."""
        return queue not in self._blocked

    def expect(self, now: float, queue: str | None = None) -> None:
        """Something new stands in line: claim at once, if its queue has a place for it."""
        if not self._queues or queue in self._blocked:
            return
        if queue is not None:
            self._alone_until.pop(queue, None)
        self._echoes = 0
        if self.is_dry:
            # We waited: it may stand below a floor, if its transaction began before another's
            # that was committed first, or in a priority that we have not met.
            self._last_full = float("-inf")
        self._due_at = min(self._due_at, now)

    def place_freed(self, queue: str) -> None:
        """A job of a queue with a limit has ended: another may have waited for its place."""
        if queue in self._blocked and queue in self._floors:
            self._freed.add(queue)

    def look_again(self, *, has_news: bool = True) -> None:
        """Something may be ready anywhere, below the floors as well: look at everything at once.

        Without news time has passed and nothing else: the look is not repeated, and the next finds
        what was locked.
        """
        if has_news:
            self._echoes = 0
        self._next_full = float("-inf")
        self.is_dry = not self._queues
        self._blocked.clear()
        self._alone_until.clear()
        self._due_at = float("-inf") if self._queues else float("inf")

    def count_finished(self, count: int, now: float) -> None:
        """Jobs have made room; their rate bounds how far ahead to claim."""
        self._finished += count
        elapsed = now - self._rate_from
        if elapsed >= RATE_PERIOD:
            self._rate = (self._rate + self._finished / elapsed) / 2
            self._finished = 0
            self._rate_from = now

    @property
    def ahead(self) -> int:
        """How many jobs are finished within ``read_ahead`` at the present rate."""
        return int(self._rate * self._read_ahead)

    def limit(self, window: int, times: int = 1) -> int:
        """How many jobs to claim for ``window`` free places.

        Beyond the window only what is finished within so many ``times`` of ``read_ahead`` at the
        present rate: a worker with long tasks must not sit on jobs that another could start.
        """
        ahead = int(self._rate * self._read_ahead * times)
        return min(max(window, ahead), self._max_claim) if window > 0 else 0

    def buckets(self, now: float, places: Mapping[str, int] = NO_LIMITS) -> list[Bucket]:
        """Where to look now, in the order of the priorities and taking the queues in turn.

        ``places``: how many jobs to take at most from each queue with a limit. Empty where no queue
        has a place; there is nothing to record then.
        """
        overdue = now - self._last_full >= FULL_LOOK_INTERVAL and now >= self._next_full
        self._is_for_freed = bool(self._freed) and self._due_at > now and not overdue
        self._is_everything = not self._is_for_freed and (
            overdue or self._next_full == float("-inf")
        )
        queues = self._open_queues(now, places)
        self._has_rest = False
        if self._is_everything:
            self._look = self._whole_line(queues, places)
            return self._look
        self._look = [bucket for queue in queues for bucket in self._above_floors(queue, places)]
        self._look.sort(key=attrgetter("lowest"))
        if self.is_full and not self._is_for_freed and len(self._look) > self._part:
            self._has_rest = True
            del self._look[self._part :]
        return self._look

    def _open_queues(self, now: float, places: Mapping[str, int]) -> list[str]:
        """The queues to look at, which are not full and not left alone."""
        if self._queues and not (self._freed or places or self._alone_until):
            return self._queues
        wanted = [queue for queue in self._queues if queue in self._freed or not self._is_for_freed]
        self._freed.clear()
        queues = []
        for queue in wanted:
            if places.get(queue, 1) <= 0:
                self._blocked.add(queue)
            elif (
                self._is_for_freed
                or self._alone_until.get(queue, now) <= now
                or (self._is_everything and queue in self._short)
            ):
                queues.append(queue)
        if not queues and not self._is_for_freed:
            # Each worker is told of a slot that is freed. One that has left some queues alone looks
            # at them once more before it waits.
            self.is_dry = self.is_dry or any(places.get(queue, 1) > 0 for queue in wanted)
            self._due_at = float("inf")
        return queues

    def _above_floors(self, queue: str, places: Mapping[str, int]) -> list[Bucket]:
        if queue in places:
            floors = self._floors[queue] or {0: 0}
            lowest = min(floors)
            return [Bucket(queue, lowest, HIGHEST_RANK, floors[lowest], places[queue])]
        above = self._above.get(queue)
        if above is None:
            floors = self._floors[queue] or {0: 0}
            above = self._above[queue] = [
                Bucket(queue, priority, priority, floor) for priority, floor in floors.items()
            ]
        return above

    def _whole_line(self, queues: Sequence[str], places: Mapping[str, int]) -> list[Bucket]:
        """These queues from the start; where there are several, one known priority at a time."""
        if len(queues) < 2:
            return [Bucket(queue, places=places.get(queue)) for queue in queues]
        known = {0}.union(*(self._floors[queue] for queue in queues))
        starts = sorted(known | {priority + 1 for priority in known if priority < HIGHEST_RANK})
        ends = [start - 1 for start in starts[1:]] + [HIGHEST_RANK]
        return [
            Bucket(queue, places=places[queue])
            if queue in places
            else Bucket(queue, lowest, highest)
            for lowest, highest in zip(starts, ends, strict=True)
            for queue in queues
            if queue not in places or lowest == min(self._floors[queue], default=0)
        ]

    def record(
        self,
        limit: int,
        claims: Sequence[Claim],
        start: float,
        end: float,
        full: Mapping[str, bool] = NO_LIMITS,
    ) -> None:
        """Learn from a claim that ran from ``start`` to ``end``.

        ``full``: of each queue with a limit for all workers, whether they run as many jobs by now.
        """
        for claim in claims:
            floors = self._floors.get(claim.queue)
            if floors is not None:
                floors[claim.priority] = max(floors.get(claim.priority, 0), claim.seq)
                self._above.pop(claim.queue, None)
        self.is_full = len(claims) >= limit
        found_room = self._record_places(claims, end, full)
        if self._is_for_freed:
            if self.is_full:
                self._due_at = end
            elif found_room:
                self._look_below(end)
            return
        if self._is_everything:
            self._last_full = end
            self._next_full = end + FULL_LOOK_SPACING * (end - start)
        self.is_dry = self._is_everything and not self.is_full
        if self.is_full or self._has_rest:
            self._due_at = end
        elif self._is_everything and self._echoes < len(ECHOES):
            self._due_at = end + ECHOES[self._echoes]
            self._next_full = float("-inf")
            self._echoes += 1
        elif self._is_everything:
            self._due_at = float("inf")
        else:
            self._look_below(end)
        if claims and len(self._queues) > 1:
            # The next claim begins with the queue after the one that filled this.
            last = self._queues.index(claims[-1].queue) if claims[-1].queue in self._queues else 0
            self._queues = self._queues[last + 1 :] + self._queues[: last + 1]

    def _look_below(self, end: float) -> None:
        """A claim above the floors came back short: the rest may stand below them."""
        self._due_at = max(end, self._next_full)
        self._last_full = float("-inf")
        self.is_dry = False

    def _record_places(self, claims: Sequence[Claim], end: float, full: Mapping[str, bool]) -> bool:
        """Learn which queues with a limit have no place left; True if one has, and no job."""
        if all(bucket.places is None for bucket in self._look):
            return False
        reached = self._look
        if self.is_full:
            # The buckets behind the one that filled the claim were not looked at.
            last = {(claim.queue, claim.priority) for claim in claims}
            while reached and not any(_holds(reached[-1], *place) for place in last):
                reached = reached[:-1]
        taken = Counter(claim.queue for claim in claims)
        found_room = False
        for bucket in reached:
            queue, places = bucket.queue, bucket.places
            if places is None:
                continue
            if taken[queue] >= places or full.get(queue):
                self._blocked.add(queue)
            else:
                self._blocked.discard(queue)
                found_room = True
            if queue in full and not taken[queue]:
                self._alone_until[queue] = end + SHARED_INTERVAL
                may_hide = bucket.floor != FIRST_PLACE and not full[queue]
                (self._short.add if may_hide else self._short.discard)(queue)
        return found_room


def _holds(bucket: Bucket, queue: str, priority: int) -> bool:
    return bucket.queue == queue and bucket.lowest <= priority <= bucket.highest
