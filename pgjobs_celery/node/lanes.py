"""The lanes of its queues that a process knows of; nothing here touches the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..db.rows.claims import Turn
from ..db.rows.flow import LaneLook
from ..job.flow import RATE, RUNNING
from ..job.rows import Bucket


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
        if turn.laned is not None:
            self.asked = [bucket.queue for bucket in buckets]
            self.found = turn.laned

    def take_found(self) -> tuple[Sequence[str], Sequence[str]] | None:
        """The queues that were asked for since, and those of them that have lanes."""
        found, self.found = self.found, None
        return None if found is None else (self.asked, found)
