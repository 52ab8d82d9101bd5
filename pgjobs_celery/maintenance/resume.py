"""End pauses at their time, and put back in line what was parked for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..db.rows.rules import BATCH
from ..job.pauses import Pause, unparked
from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


def unpark(database: Database, until: float = float("inf")) -> int:
    """Move jobs whose pause does not hold any more to where they belong; how many.

    In batches, each in its own transaction and each job at its own place in line, until this time
    of the monotonic clock. Others may do it at once, and it may end anywhere: the next goes on.
    """
    rules = database.rules
    # First: from then on no worker parks a job for them.
    ended = rules.end_pauses()
    holding = {Pause(*pause[:3]).gate for pause in rules.list_pauses()}
    total = 0
    for queue, lane in rules.list_parked():
        after = unparked(lane, holding)
        if after == lane:
            continue
        moved = before = total
        while time.monotonic() < until:
            count = rules.unpark_jobs(queue, lane, after)
            moved += count
            if count < BATCH:
                break
        total = moved
        if moved > before:
            rules.wake_queue(queue)
    if ended and not total and time.monotonic() < until:
        rules.forget_pauses(ended)
    return total


class Resume(Service):
    """Resume queues, tasks, tags and keys whose pause is over, when told (Stage sees it)."""

    name = "resume"
    #: How often jobs are looked for that are parked without a pause, in seconds: its row was
    #: deleted by hand.
    interval = 60.0
    #: Seconds after which the other services have their turn.
    turn = 1.0
    #: When to go on after a batch, and at a time that has passed, in seconds.
    pause = 0.05

    def __init__(self) -> None:
        self._delay = 0.0

    def run(self, database: Database) -> dict[str, int]:
        """Resume what is due, and put back what was parked."""
        queues = database.rules.resume_due()
        jobs = unpark(database, time.monotonic() + self.turn)
        end = database.claims.look_ahead().pause
        self._delay = self.interval if end is None else min(max(end, self.pause), self.interval)
        return {"queues": len(queues), "jobs": jobs}

    def next_delay(self) -> float:
        """Until the next pause is over, as the database's clock has it."""
        return self._delay
