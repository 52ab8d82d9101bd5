"""Decide when to look at the lanes of which queue; nothing here touches the database.

A queue is known to have lanes from a look at everything, which asks for them, until a look at its
lanes finds none. Each look says when the next is worth its price: at once, when a gate opens, when
a job ends, or when more is published. The lanes and the line of a queue take turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..db.rows.flow import LaneLook
from ..job.rows import Bucket
from .feed import NEVER

#: How long lanes are left alone whose gates or jobs another transaction has locked, in seconds.
HELD_UP = 0.05


class LanePlan:
    """When the lanes of each queue are due. Times are monotonic seconds."""

    def __init__(self) -> None:
        #: By queue; the one that waits for the longest time stands first.
        self._due: dict[str, float] = {}
        #: Of each, whether its rules put each of its jobs into a lane.
        self._laned: dict[str, bool] = {}
        #: Gates to be made before the next look at a queue's lanes.
        self._gates: dict[str, tuple[str, ...]] = {}
        #: Queues whose lanes wait for the end of a job.
        self._waiting: set[str] = set()
        #: The last look was at lanes.
        self.had_turn = False
        #: And has left something.
        self.is_full = False

    @property
    def due_at(self) -> float:
        """When the next look is worth its price; infinite while there is nothing to expect."""
        return min(self._due.values()) if self._due else NEVER

    def know(self, laned: Iterable[str], queues: Iterable[str]) -> None:
        """These of the ``queues`` have lanes, and the others have none that are known."""
        found = set(laned)
        for queue in queues:
            if queue in found:
                self._laned[queue] = False
                self._due.setdefault(queue, float("-inf"))
            elif queue in self._laned:
                self._forget(queue)

    def sort(self, queues: Iterable[str]) -> None:
        """Each job of these comes into a lane, by rules of the queue."""
        for queue in queues:
            if queue not in self._laned:
                self._due[queue] = float("-inf")
            self._laned[queue] = True

    def expect(self, now: float, queue: str) -> None:
        """Something new may stand in its lanes."""
        if queue in self._due:
            self._due[queue] = min(self._due[queue], now)

    def job_ended(self, now: float, queue: str) -> None:
        """A place may be free in one of its lanes."""
        if queue in self._waiting:
            self.expect(now, queue)

    def look_again(self) -> None:
        """Look at all of them: a notification may have been lost."""
        for queue in self._due:
            self._due[queue] = float("-inf")

    def choose(self, now: float, places: Mapping[str, int]) -> Bucket | None:
        """The lanes to look at now; None for none."""
        for queue, due_at in self._due.items():
            if due_at > now:
                continue
            if places.get(queue, 1) <= 0:
                self._due[queue] = now + HELD_UP
                continue
            return Bucket(
                queue,
                places=places.get(queue),
                is_laned=True,
                is_sorted=self._laned[queue],
                gates=self._gates.get(queue, ()),
            )
        return None

    def record(self, look: LaneLook, end: float) -> None:
        """Learn from a look at the lanes of a queue."""
        queue = look.queue
        self.is_full = look.is_full
        if queue not in self._laned:
            return
        self._gates[queue] = look.gates
        (self._waiting.add if look.waits_for_jobs else self._waiting.discard)(queue)
        due_at = end + (float("inf") if look.opens_in is None else max(0.0, look.opens_in))
        if look.is_full:
            due_at = end
        elif look.is_held_up:
            due_at = min(due_at, end + HELD_UP)
        elif not look.has_lanes and not self._laned[queue]:
            self._forget(queue)
            return
        # Behind the others.
        self._due.pop(queue, None)
        self._due[queue] = due_at

    def _forget(self, queue: str) -> None:
        for known in (self._due, self._laned, self._gates):
            known.pop(queue, None)
        self._waiting.discard(queue)
