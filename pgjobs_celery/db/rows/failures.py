"""The failures that jobs stand at, by what they have in common: each statement is bounded."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..connection import Call, Row
    from ..session import Session

#: How many of the newest failures are looked at, and how many problems are told of them.
NEWEST, MOST_PROBLEMS = 10_000, 500
#: Among how many of the newest ends failures without a name are looked for, and how many are read.
ENDS, MOST_UNNAMED = 5_000, 200
#: Into how many spans of time failures are counted.
BARS = 24

EARLIEST = datetime(1, 1, 3, tzinfo=timezone.utc)
LATEST = datetime(9999, 12, 29, tzinfo=timezone.utc)


class ProblemRow(NamedTuple):
    """Failures that are alike, as far as they were looked at."""

    fingerprint: str
    jobs: int
    discarded: int
    retryable: int
    first: datetime
    last: datetime
    #: The first of all, looked at or not.
    first_ever: datetime
    tasks: list[str]
    queues: list[str]
    #: How many failed in each span of time, the oldest first.
    bars: tuple[int, ...]
    #: The newest job of them, its worker, and its last entry of ``errors`` without the traceback.
    task_id: str
    worker: str | None
    error: Any
    #: How many problems there are, these and those that are not told.
    problems: int


class Looked(NamedTuple):
    """The failures that were looked at."""

    jobs: int
    oldest: datetime | None
    #: The time on the server.
    now: datetime


class UnnamedRow(NamedTuple):
    """A job that has failed for good, and whose row does not name the problem."""

    task_id: str
    task: str
    queue: str
    worker: str | None
    finished_at: datetime
    error: Any


class FailedJob(NamedTuple):
    """A job that stands at a problem, as a line of a list."""

    task_id: str
    task: str
    queue: str
    state: str
    #: None, as below, where the row was not read for it.
    attempt: int | None
    max_attempts: int | None
    worker: str | None
    failed_at: datetime
    #: The number of its row.
    id: int | None


class CountRow(NamedTuple):
    """How many of the jobs that were looked at have this in common."""

    kind: str
    name: str
    jobs: int
    first: datetime
    last: datetime


class FailureRows:
    """Statements on jobs that stand at a failure, one method each: they lock nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def survey_failures(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        tasks: Sequence[str] | None = None,
        queues: Sequence[str] | None = None,
        errors: Sequence[str] | None = None,
        limit: int = MOST_PROBLEMS,
    ) -> tuple[list[ProblemRow], Looked, list[UnnamedRow]]:
        """The problems of a span of time, what was looked at, and what has no name."""
        span = {"since": _within(since or EARLIEST), "until": _within(until or LATEST)}
        words = {
            name: list(value) if value else None
            for name, value in (("tasks", tasks), ("queues", queues), ("errors", errors))
        }
        depths = {"depth": NEWEST, "limit": limit, "bars": BARS}
        problems, looked, unnamed = self._read(
            self._session.call("survey_failures", **depths, **span, **words),
            self._session.call("look_at_failures", depth=NEWEST, **span),
            self._session.call("list_unnamed", depth=ENDS, limit=MOST_UNNAMED, **span),
        )
        return (
            [_to_problem(row) for row in problems],
            Looked(*looked[0]),
            [_to_unnamed(row) for row in unnamed],
        )

    def list_unnamed(self) -> list[UnnamedRow]:
        """The newest jobs that have failed for good, and whose rows do not name the problem."""
        call = self._session.call(
            "list_unnamed", depth=ENDS, limit=MOST_UNNAMED, since=EARLIEST, until=LATEST
        )
        return [_to_unnamed(row) for row in self._read(call)[0]]

    def survey_problem(self, fingerprint: str) -> list[CountRow]:
        """Where the newest of its jobs stand, by state, task, queue, worker and time."""
        call = self._session.call(
            "survey_problem", fingerprint=fingerprint, depth=NEWEST, bars=BARS
        )
        return [CountRow(*row) for row in self._read(call)[0]]

    def count_problem(self, fingerprint: str, since: datetime, until: datetime) -> Looked:
        """How many of its jobs failed in a span of time."""
        span = {"since": _within(since), "until": _within(until)}
        call = self._session.call("count_problem", fingerprint=fingerprint, depth=NEWEST, **span)
        return Looked(*self._read(call)[0][0])

    def list_problem_jobs(
        self, fingerprint: str, limit: int, before: tuple[datetime, int] | None = None
    ) -> list[FailedJob]:
        """Its jobs, the newest failure first; ``before`` is the last one of the page before."""
        at, id = before or (None, None)
        call = self._session.call(
            "list_problem_jobs", fingerprint=fingerprint, limit=limit, before_at=at, before_id=id
        )
        return [FailedJob(*row) for row in self._read(call)[0]]

    def _read(self, *calls: Call) -> list[list[Row]]:
        session = self._session
        return session.retrying(lambda: session.run([session.call("pin_plans"), *calls]))[1:]


def _within(moment: datetime) -> datetime:
    """The time, or the nearest that rows are read with."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return min(max(moment, EARLIEST), LATEST)


def _to_problem(row: Row) -> ProblemRow:
    problem = ProblemRow(*row)
    return problem._replace(bars=_bars(row[9]), error=_decode(row[12]))


def _to_unnamed(row: Row) -> UnnamedRow:
    return UnnamedRow(*row)._replace(error=_decode(row[5]))


def _bars(text: str) -> tuple[int, ...]:
    found = json.loads(text)
    return tuple(found.get(str(bar), 0) for bar in range(1, BARS + 1))


def _decode(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def bar_of(moment: datetime, since: datetime, until: datetime) -> int:
    """The place in ``bars`` for a time, from 0."""
    whole = max((until - since) / timedelta(seconds=1), 0.001)
    return min(max(int((moment - since) / timedelta(seconds=1) / whole * BARS), 0), BARS - 1)
