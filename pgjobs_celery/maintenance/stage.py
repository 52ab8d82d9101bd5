"""Make jobs available when they are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Stage(Service):
    """Move due jobs into line: at the time of the nearest one, and when told of a new one."""

    name = "stage"
    #: The safety net, in seconds: how late a job may be staged whose announcement got lost.
    interval = 5.0
    #: How many jobs one statement moves.
    batch = 1000

    def __init__(self) -> None:
        self._delay = 0.0

    def run(self, database: Database) -> dict[str, int]:
        """Move what is due, batch by batch."""
        total = 0
        while True:
            count = sum(database.jobs.stage_jobs(self.batch).values())
            total += count
            if count < self.batch:
                break
        next_due = database.jobs.next_due()
        self._delay = self.interval if next_due is None else min(max(next_due, 0.0), self.interval)
        return {"staged": total}

    def next_delay(self) -> float:
        """Until the nearest due time, as the database's clock has it."""
        return self._delay
