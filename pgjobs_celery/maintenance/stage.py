"""Make jobs available when they are due, and notice pauses that are over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Stage(Service):
    """Move due jobs into line: when the next one is due, and when told of a new one."""

    name = "stage"
    #: The safety net, in seconds: how late a job may be staged whose announcement got lost.
    interval = 5.0
    #: How many jobs one statement moves.
    batch = 1000
    #: Seconds after which the other services have their turn.
    turn = 1.0
    #: When to look again while another worker is moving what is due, in seconds.
    pause = 0.05

    def __init__(self, on_pause_over: Callable[[], None] = lambda: None) -> None:
        self._on_pause_over = on_pause_over
        self._delay = 0.0

    def run(self, database: Database) -> dict[str, int]:
        """Move what is due, batch by batch."""
        until = time.monotonic() + self.turn
        # One look for all that has its time: an idle worker does little else.
        ahead = database.claims.look_ahead()
        total = self._stage(database, ahead.job, until)
        # Behind it: jobs that are due do not wait for whatever keeps signals from being looked at.
        if ahead.has_signals:
            total += self._wake(database, until)
        if ahead.pause is not None:
            if ahead.pause <= 0:
                self._on_pause_over()
            else:
                self._delay = min(self._delay, ahead.pause)
        return {"staged": total}

    def _stage(self, database: Database, due: float | None, until: float) -> int:
        total = 0
        while due is not None and due <= 0 and time.monotonic() < until:
            count = sum(database.claims.stage_jobs(self.batch).values())
            total += count
            due = database.claims.next_due() if count else self.pause
        self._delay = self.interval if due is None else min(max(due, 0.0), self.interval)
        return total

    def _wake(self, database: Database, until: float) -> int:
        """Put jobs in line whose signal is there; how many."""
        woken, is_more = database.steps.wake_waiting(self.batch)
        total = sum(woken.values())
        while is_more and time.monotonic() < until:
            woken, is_more = database.steps.wake_waiting(self.batch)
            total += sum(woken.values())
        if is_more:
            self._delay = 0.0
        return total

    def next_delay(self) -> float:
        """Until the nearest due time, or end of a pause, as the database's clock has it."""
        return self._delay
