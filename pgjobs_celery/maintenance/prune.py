"""Delete finished jobs once they are older, or more, than is to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import Settings
from ..states import State
from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Prune(Service):
    """Delete what has finished, in batches that never hold up a claim."""

    name = "prune"
    interval = 60.0
    #: How many rows one statement deletes.
    batch = 1000

    def __init__(self, settings: Settings) -> None:
        failed = settings.prune_failed_max_age
        self._ages = {
            State.COMPLETED: settings.prune_max_age or None,
            State.DISCARDED: failed or None,
            State.CANCELLED: failed or None,
        }
        self._count = settings.prune_max_count

    def run(self, database: Database) -> dict[str, int]:
        """Delete all that is too old, or too much."""
        return {"pruned": sum(self._prune(database, state) for state in self._ages)}

    def _prune(self, database: Database, state: State) -> int:
        total = 0
        age = self._ages[state]
        excess = database.jobs.find_excess(state, self._count) if self._count else None
        if age is None and excess is None:
            return 0
        while count := database.jobs.prune_jobs(state, age, excess, self.batch):
            total += count
            if count < self.batch:
                break
        return total
