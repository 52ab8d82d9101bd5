"""The clock of an inbox, which a test can advance."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

from ...errors import InvalidOption
from ...job.checks import is_number
from ..capturing.capture import Enqueued


class InboxClock:
    """This machine's clock, plus its moves.

    A job published after a move is due by the moved clock, so each move counts only for the jobs
    that were published before.
    """

    def __init__(self) -> None:
        self._moves: list[tuple[datetime, timedelta]] = []
        #: When jobs were put back in line, by their numbers.
        self._put_back: dict[int, datetime] = {}

    def now(self) -> datetime:
        """The time that it shows."""
        moved = sum((by for _, by in self._moves), timedelta())
        return datetime.now(timezone.utc) + moved

    def advance(self, seconds: float | timedelta) -> None:
        """Move it on. Raises InvalidOption for a value that is not a time, or below 0."""
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
    """The span by which to move a clock on. Raises InvalidOption."""
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
