"""The limits of its queues that a process knows; nothing here touches the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from ..job.flow import queue_part
from ..job.rows import Slots


class KnownLimits:
    """How many more jobs of each queue this process may claim, as far as it can tell.

    The claim itself decides: whatever is not known here yet, it gives too few and never too many.
    """

    def __init__(self) -> None:
        #: How many jobs of a queue this process runs at once (``pgjobs_queues``).
        self.own: Mapping[str, int] = {}
        #: How many all workers together do.
        self.shared: Mapping[str, int] = {}
        #: Of each of those, whether it had no place left when it was looked at last.
        self.full: dict[str, bool] = {}
        #: The limits that all workers share may have changed.
        self.is_stale = True
        #: Queues whose own rules put each of their jobs into a lane.
        self.sorted: frozenset[str] = frozenset()

    def __contains__(self, queue: str) -> bool:
        return queue in self.own or queue in self.shared

    def is_sorted(self, queue: str) -> bool:
        """True where nothing is claimed from the line: each job of it comes into a lane."""
        return bool(self.sorted) and (queue in self.sorted or queue_part(queue) in self.sorted)

    def places(self, held: Iterable[str]) -> dict[str, int]:
        """How many more jobs of each queue with a limit to claim at most, from 0.

        ``held``: the queue of each job that this process has claimed and that has not ended.
        """
        if not self.own and not self.shared:
            return {}
        running = Counter(held)
        places: dict[str, int] = {}
        for limits in (self.own, self.shared):
            for queue, limit in limits.items():
                free = max(0, limit - running[queue])
                places[queue] = min(places.get(queue, free), free)
        return places

    def expire(self) -> None:
        """The limits that all workers share may have changed: look at them again."""
        self.is_stale = True

    def refresh(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Have the limits for all workers together read, if they may have changed."""
        if self.is_stale:
            # Before they are read: they may change in the meantime.
            self.is_stale = False
            try:
                self.share(read())
            except BaseException:
                self.is_stale = True
                raise

    def share(self, limits: Mapping[str, int]) -> None:
        """These are the limits for all workers together, and no others."""
        self.shared = limits
        self.full = {queue: self.full.get(queue, False) for queue in limits}

    def learn(self, places: Mapping[str, Slots], taken: Iterable[str]) -> None:
        """A claim has counted how many places there were, and has taken jobs of these queues."""
        counts = Counter(taken)
        for queue, (free, _) in places.items():
            if queue in self.shared:
                self.full[queue] = free <= counts[queue]
