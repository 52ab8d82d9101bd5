"""Decide where and how much to claim next; nothing here touches the database.

A claim starts at a floor: the place in line below which nothing was ready. What becomes ready
later stands behind it, except for what was committed late or put back, so a look without floors
follows whenever a claim comes back short, and now and then under load.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .job import HIGHEST_RANK, Bucket, Claim

#: A full look follows the last one after this many times its own duration: at most 2 percent.
FULL_LOOK_SPACING = 50
#: Under load a full look is due this often, in seconds.
FULL_LOOK_INTERVAL = 1.0
#: How long after a look that found too little it is repeated, in seconds: a row that somebody has
#: locked is passed over, and its release is not announced (a retry that is recorded just when
#: its job is in line again; a hand that cancels and thinks better of it).
ECHOES = (0.02, 0.2)
#: Over how long the rate of finished jobs is averaged, in seconds.
RATE_PERIOD = 0.1


class ClaimPlan:
    """The floors, the rate and the appetite of one channel. Times are monotonic seconds."""

    def __init__(self, max_claim: int, read_ahead: float) -> None:
        self._max_claim = max_claim
        self._read_ahead = read_ahead
        self._queues: list[str] = []
        self._floors: dict[str, dict[int, int]] = {}
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
        #: When the next claim is worth its price; infinite while there is nothing to expect.
        self.due_at = float("inf")

    def set_queues(self, queues: Iterable[str]) -> None:
        """Claim from these from now on, beginning with a look at all of them."""
        self._queues = list(queues)
        self._floors = {queue: self._floors.get(queue, {}) for queue in self._queues}
        self.look_again()

    @staticmethod
    def everything(queues: Iterable[str]) -> list[Bucket]:
        """A look at all of these, from the start."""
        return [Bucket(queue) for queue in queues]

    @property
    def queues(self) -> list[str]:
        """The queues that are claimed from."""
        return list(self._queues)

    def expect(self, now: float) -> None:
        """Something new stands in line: claim at once."""
        if not self._queues:
            return
        self._echoes = 0
        if self.is_dry:
            # We waited: it may stand below a floor, if its transaction began before another's
            # that was committed first, or in a priority that we have not met.
            self._last_full = float("-inf")
        self.due_at = min(self.due_at, now)

    def look_again(self) -> None:
        """Something may be ready anywhere, below the floors as well: look at everything at once."""
        self._echoes = 0
        self._next_full = float("-inf")
        self.is_dry = not self._queues
        self.due_at = float("-inf") if self._queues else float("inf")

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

    def limit(self, window: int, buffered: int) -> int:
        """How many jobs to claim for ``window`` free places, with ``buffered`` at hand.

        Beyond the window only what is finished within ``read_ahead`` at the present rate: a
        worker with long tasks must not sit on jobs that another could start.
        """
        if window <= 0 and not buffered:
            return 0
        return max(0, min(max(window, self.ahead) - buffered, self._max_claim))

    def buckets(self, now: float) -> list[Bucket]:
        """Where to look now, in the order of the priorities and taking the queues in turn."""
        overdue = now - self._last_full >= FULL_LOOK_INTERVAL
        self._is_everything = now >= self._next_full and (
            overdue or self._next_full == float("-inf")
        )
        if self._is_everything:
            return self._whole_line()
        buckets = [
            Bucket(queue, priority, priority, floor)
            for queue in self._queues
            for priority, floor in (self._floors[queue] or {0: 0}).items()
        ]
        buckets.sort(key=lambda bucket: bucket.lowest)
        return buckets

    def _whole_line(self) -> list[Bucket]:
        """All queues from the start; where there are several, one known priority at a time."""
        if len(self._queues) < 2:
            return self.everything(self._queues)
        known = {0}.union(*self._floors.values())
        starts = sorted(known | {priority + 1 for priority in known if priority < HIGHEST_RANK})
        ends = [start - 1 for start in starts[1:]] + [HIGHEST_RANK]
        return [
            Bucket(queue, lowest, highest)
            for lowest, highest in zip(starts, ends, strict=True)
            for queue in self._queues
        ]

    def record(self, limit: int, claims: Sequence[Claim], start: float, end: float) -> None:
        """Learn from a claim that ran from ``start`` to ``end``."""
        for claim in claims:
            floors = self._floors.get(claim.queue)
            if floors is not None:
                floors[claim.priority] = max(floors.get(claim.priority, 0), claim.seq)
        if self._is_everything:
            self._last_full = end
            self._next_full = end + FULL_LOOK_SPACING * (end - start)
        self.is_full = len(claims) >= limit
        self.is_dry = self._is_everything and not self.is_full
        if self.is_full:
            self.due_at = end
        elif self._is_everything and self._echoes < len(ECHOES):
            self.due_at = end + ECHOES[self._echoes]
            self._next_full = float("-inf")
            self._echoes += 1
        elif self._is_everything:
            self.due_at = float("inf")
        else:
            # Short: the rest may stand below the floors.
            self.due_at = max(end, self._next_full)
            self._last_full = float("-inf")
        if claims and len(self._queues) > 1:
            # The next claim begins with the queue after the one that filled this.
            last = self._queues.index(claims[-1].queue) if claims[-1].queue in self._queues else 0
            self._queues = self._queues[last + 1 :] + self._queues[: last + 1]
