"""Delete finished jobs beyond the age or number to keep; entries, receipts, audit by their age."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ..config import Settings
from ..job.states import State
from ..signals import jobs_pruned
from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Prune(Service):
    """Delete finished jobs, in batches that never hold up a claim."""

    name = "prune"
    interval = 60.0
    #: How many rows one statement deletes.
    batch = 1000
    #: Every so many runs it looks from the start, for rows that were locked when it came by.
    full = 60

    def __init__(self, settings: Settings) -> None:
        failed = settings.prune_failed_max_age or None
        self._ages = {
            State.COMPLETED: settings.prune_max_age or None,
            State.DISCARDED: failed,
            State.CANCELLED: failed,
        }
        self._chord_age = settings.chord_max_age or Settings.chord_max_age
        self._count = settings.prune_max_count
        self._audit_age = settings.audit_max_age
        self._signal_age = settings.signal_max_age
        self._since: dict[State, datetime | None] = {}
        self._runs = 0

    def run(self, database: Database) -> dict[str, int]:
        """Delete all jobs that are too old, or too many."""
        if self._runs % self.full == 0:
            self._since.clear()
        self._runs += 1
        count = sum(self._prune(database, state) for state in self._ages)
        self._prune_groups(database)
        while database.entries.prune_entries(self.batch) == self.batch:
            pass
        while database.receipts.prune_receipts(self.batch) == self.batch:
            pass
        if self._audit_age:
            while database.audit.prune_audit(self._audit_age, self.batch) == self.batch:
                pass
        if self._signal_age:
            while database.steps.prune_signals(self._signal_age, self.batch) == self.batch:
                pass
        if count:
            jobs_pruned.send(sender=None, count=count)
        return {"pruned": count}

    def _prune_groups(self, database: Database) -> None:
        age = self._ages[State.COMPLETED]
        if age is None:
            return
        # A saved group is kept as long as its results are, or as its chord may take.
        while database.groups.prune_groups(max(age, self._chord_age), self.batch) == self.batch:
            pass

    def _prune(self, database: Database, state: State) -> int:
        age = self._ages[state]
        excess = database.claims.find_excess(state, self._count) if self._count else None
        if age is None and excess is None:
            return 0
        total = 0
        while True:
            since = self._since.get(state)
            count, last = database.claims.prune_jobs(state, age, excess, since, self.batch)
            total += count
            self._since[state] = last or since
            if count < self.batch:
                return total
