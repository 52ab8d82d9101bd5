"""The lanes of its queues that a process knows of; nothing here touches the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..db.rows.claims import Pending, Turn
from ..db.rows.flow import LaneLook
from ..job.flow import RATE, RUNNING
from ..job.rows import Bucket

#: How many claims are remembered: the rest is forgotten, and others are not told of their ends.
MOST = 10_000


class KnownLanes:
    """The findings of the last claims."""

    def __init__(self) -> None:
        #: After a look at everything: its queues, and those of them that have lanes.
        self.asked: Sequence[str] = ()
        self.found: Sequence[str] | None = None
        #: After a look at lanes.
        self.look: LaneLook | None = None
        #: Queues whose lanes wait for the end of a job.
        self.waiting: set[str] = set()
        #: How many looks left lanes shut, by queue and reason: until a token comes, or a job ends.
        self.throttled: Counter[tuple[str, str]] = Counter()
        #: The queues of jobs that were claimed from lanes, by the number of the row.
        self._held: dict[int, str] = {}

    def learn(self, turn: Turn, buckets: Sequence[Bucket]) -> None:
        """A claim has looked at these."""
        self.look = turn.lanes
        if turn.lanes is not None:
            queue = turn.lanes.queue
            if turn.lanes.opens_in is not None and not turn.lanes.is_void:
                self.throttled[queue, RATE] += 1
            if turn.lanes.waits_for_jobs:
                self.throttled[queue, RUNNING] += 1
            (self.waiting.add if turn.lanes.waits_for_jobs else self.waiting.discard)(queue)
            if len(self._held) > MOST:  # of lost claims, which have no outcome here
                self._held.clear()
            self._held.update((claim.id, queue) for claim in turn.claims)
        if turn.laned is not None:
            self.asked = [bucket.queue for bucket in buckets]
            self.found = turn.laned

    def ended(self, pending: Pending, buckets: Sequence[Bucket]) -> list[int]:
        """The jobs from lanes that end with these outcomes, and not where lanes are looked at."""
        held = self._held
        if not held:
            return []
        looked_at = {bucket.queue for bucket in buckets if bucket.is_laned}
        ids = [outcome.id for outcome in pending.outcomes]
        return [id for id in ids if id in held and held[id] not in looked_at]

    def forget(self, pending: Pending) -> None:
        """These outcomes are written."""
        if self._held:
            for outcome in pending.outcomes:
                self._held.pop(outcome.id, None)

    def take_found(self) -> tuple[Sequence[str], Sequence[str]] | None:
        """The queues that were asked for since, and those of them that have lanes."""
        found, self.found = self.found, None
        return None if found is None else (self.asked, found)
