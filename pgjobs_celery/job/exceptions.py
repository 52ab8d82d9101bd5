"""How a task may end its attempt: not now (Snooze), not at all (Cancel), never again (Discard).

A task raises or returns them. On the way to the worker's main process, which writes the outcome,
each is one of Celery's own exceptions, so that its signals, hooks and logs keep their meaning.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

from celery.exceptions import Ignore, Retry

from ..errors import InvalidOption
from .checks import is_number

#: The message of ``Task.replace()`` after it has published the others; Celery has no type for it.
REPLACED = "Replaced by new task"
#: The longest delay, in seconds: a hundred years, well within PostgreSQL's range of times.
LONGEST_DELAY = 100 * 365 * 86_400.0
#: What is due later than that is a wait without a timeout: it was due in LONGEST_DELAY once.
_ENDLESS = timedelta(seconds=LONGEST_DELAY / 2)


def is_endless(due: datetime | None, now: datetime | None = None) -> bool:
    """True for the due time of a job that waits without a timeout: nobody wants to see that.

    >>> is_endless(datetime.now(timezone.utc) + timedelta(seconds=LONGEST_DELAY))
    True
    """
    if due is None:
        return False
    aware = due if due.tzinfo else due.replace(tzinfo=timezone.utc)
    return aware - (now or datetime.now(timezone.utc)) > _ENDLESS


class TaskEnd(Exception):
    """Ends a task's attempt. Outside of a :class:`PgTask` it is an ordinary failure."""


class Snooze(TaskEnd):
    """Run the job again later; this costs no attempt and is not an error.

    ``when`` is a number of seconds from now, a timedelta, or a time with a time zone.
    """

    def __init__(self, when: float | timedelta | datetime) -> None:
        super().__init__(when)
        self.when = when

    @property
    def delay(self) -> float:
        """Seconds from now."""
        return seconds_from_now(self.when, "Snooze")

    def __str__(self) -> str:
        return f"snoozed: {self.when}"


class Cancel(TaskEnd):
    """End the job as cancelled; Celery says REVOKED."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Discard(TaskEnd):
    """End the job as failed, however many attempts are left; Celery says FAILURE."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Suspended(BaseException):
    """Ends a run that has come to a sleep, or to a wait for a signal; the job goes on later.

    No Exception: a task that handles its errors (``except Exception``) must not handle this.
    """

    def __init__(self, what: str, delay: float | None) -> None:
        super().__init__(what)
        self.what = what
        #: For how many seconds; None for as long as it takes.
        self.delay = delay


class Suspension(Exception):
    """The reason that logs and signals give for a run that was suspended."""


# Rows, logs and tracebacks show these as their users import them.
for _kind in (Snooze, Cancel, Discard):
    _kind.__module__ = "pgjobs_celery"


class Postponed(Retry):
    """Tells the worker of an attempt after which the job goes back in line.

    ``error`` is the entry for ``errors``; empty if the row has it already, None for a snooze.
    """

    def __init__(self, delay: float, exc: BaseException, error: str | None) -> None:
        super().__init__(exc=exc, when=delay)
        self.delay = delay
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.delay, self.exc, self.error)


class CancelledByTask(Ignore):
    """Tells the worker that the task has cancelled its job."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LetGo(Ignore):
    """Tells the worker that the task has found out that another worker has its job."""


def seconds_from_now(when: Any, what: str) -> float:
    """Seconds until ``when``: seconds, a timedelta or a datetime. Raises InvalidOption."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise InvalidOption(f"{what} needs a time with a time zone, not {when!r}")
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    seconds = when.total_seconds() if isinstance(when, timedelta) else when
    if not is_number(seconds):
        raise InvalidOption(f"{what} needs seconds, a timedelta or a datetime, not {when!r}")
    if not math.isfinite(seconds) or seconds < 0:
        raise InvalidOption(f"{what} needs 0 seconds or more, not {when!r}")
    return min(float(seconds), LONGEST_DELAY)
