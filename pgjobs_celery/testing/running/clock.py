"""The clock of an inbox, which a test moves on."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

from ...errors import InvalidOption
from ...job.checks import is_number
from ..capturing.capture import Enqueued


class Clock:
    """This machine's clock, and what it was moved on by.

    What was published after a move is due by what the clock shows then: so each counts for the jobs
    that were there already.
    """

    def __init__(self) -> None:
        self._moves: list[tuple[datetime, timedelta]] = []
        #: When jobs were put back in line, by their numbers.
        self._put_back: dict[int, datetime] = {}

    def now(self) -> datetime:
        """What it shows."""
        moved = sum((by for _, by in self._moves), timedelta())
        return datetime.now(timezone.utc) + moved

    def advance(self, seconds: float | timedelta) -> None:
        """Move it on. Raises InvalidOption for what is no time, or would move it back."""
        self._moves.append((datetime.now(timezone.utc), span(seconds)))

    def put_back(self, job: Enqueued) -> None:
        """A job's ``eta`` was set just now."""
        self._put_back[job.number] = datetime.now(timezone.utc)

    def is_due(self, job: Enqueued) -> bool:
        """True once a job that waits may run."""
        return job.eta is None or self._local(job, job.eta) <= datetime.now(timezone.utc)

    def is_expired(self, job: Enqueued) -> bool:
        """True once it is too late to run it."""
        if job.expires is None:
            return False
        return self._local(job, job.expires) <= datetime.now(timezone.utc)

    def _local(self, job: Enqueued, at: datetime) -> datetime:
        since = self._put_back.get(job.number, job.published_at)
        return at - sum((by for moved, by in self._moves if moved >= since), timedelta())


def span(seconds: float | timedelta) -> timedelta:
    """By how much a clock is to be moved on. Raises InvalidOption."""
    if isinstance(seconds, timedelta):
        by = seconds
    elif not is_number(seconds):
        raise InvalidOption(f"advance takes seconds or a timedelta, not {seconds!r}")
    elif not math.isfinite(seconds):
        raise InvalidOption(f"advance takes a number of seconds, not {seconds!r}")
    else:
        by = timedelta(seconds=seconds)
    if by < timedelta():
        raise InvalidOption(f"a clock is moved on, not back: {seconds!r}")
    return by
