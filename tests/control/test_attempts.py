"""The attempts that rows of every kind tell of."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgjobs_celery.control.attempts import Attempt, attempts
from pgjobs_celery.job.job import Job
from pgjobs_celery.job.states import State

T = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)


def at(minutes: float) -> datetime:
    return T + timedelta(minutes=minutes)


def job(state: str, attempt: int = 1, *errors: Any, **values: Any) -> Job:
    return Job("id", "t", "q", State(state), attempt, 5, errors=list(errors), **values)


def error(number: Any, ended: float, kind: str = "ValueError", **values: Any) -> dict[str, Any]:
    return {"attempt": number, "at": at(ended).isoformat(), "type": kind, "message": "m", **values}


def ran(began: float, worker: str = "w1") -> dict[str, Any]:
    return {"began": at(began).isoformat(), "worker": worker}


def told(found: tuple[Attempt, ...]) -> list[tuple[Any, ...]]:
    def minute(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - T) / timedelta(minutes=1)

    return [(a.number, minute(a.began), minute(a.ended), a.worker, a.outcome) for a in found]


LAST = {"attempted_at": at(10), "attempted_by": "w2"}
CANCELLED = "TaskRevokedError"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (job("available", 0), []),
        (job("executing", 1, **LAST), [(1, 10, None, "w2", "running")]),
        (job("completed", 1, finished_at=at(11), **LAST), [(1, 10, 11, "w2", "completed")]),
        (
            job("completed", 2, error(1, 5, **ran(4)), finished_at=at(11), **LAST),
            [(1, 4, 5, "w1", "retried"), (2, 10, 11, "w2", "completed")],
        ),
        (
            job("discarded", 2, error(1, 5, **ran(4)), error(2, 11, **ran(10, "w2")), **LAST),
            [(1, 4, 5, "w1", "retried"), (2, 10, 11, "w2", "failed")],
        ),
        # A row of an older release: the last attempt is known from the row itself.
        (
            job("discarded", 2, error(1, 5), error(2, 11), finished_at=at(11), **LAST),
            [(1, None, 5, None, "retried"), (2, 10, 11, "w2", "failed")],
        ),
        (job("retryable", 1, error(1, 11), **LAST), [(1, 10, 11, "w2", "retried")]),
        # Retried by hand: in line, and no run since.
        (job("available", 1, error(1, 11), **LAST), [(1, 10, 11, "w2", "retried")]),
        (
            job("executing", 2, error(1, 5), **LAST),
            [(1, None, 5, None, "retried"), (2, 10, None, "w2", "running")],
        ),
        (
            job("available", 1, error(1, 11, "WorkerLostError", **ran(10)), **LAST),
            [(1, 10, 11, "w1", "lost")],
        ),
        (
            job("discarded", 1, error(1, 11, "WorkerLostError"), **LAST),
            [(1, 10, 11, "w2", "lost")],
        ),
        (
            job("available", 1, error(1, 11, "WorkerShutdown"), **LAST),
            [(1, 10, 11, "w2", "given back")],
        ),
        (job("available", 0, **LAST), [(1, 10, None, "w2", "given back")]),
        (
            job("scheduled", 0, meta={"snoozed": 1}, **LAST),
            [(1, 10, None, "w2", "snoozed")],
        ),
        # Cancelled while it waited: no attempt, or none but those before.
        (job("cancelled", 0, error(0, 11, CANCELLED), finished_at=at(11)), []),
        (
            job("cancelled", 1, error(1, 11), error(1, 30, CANCELLED), **LAST),
            [(1, 10, 11, "w2", "retried")],
        ),
        # Cancelled while it ran.
        (
            job("cancelled", 1, error(1, 11, CANCELLED, **ran(10)), finished_at=at(11), **LAST),
            [(1, 10, 11, "w1", "cancelled")],
        ),
        (
            job("cancelled", 1, error(1, 11, CANCELLED), finished_at=at(11), **LAST),
            [(1, 10, 11, "w2", "cancelled")],
        ),
        # Written by hand.
        (job("discarded", 1, finished_at=at(11), **LAST), [(1, 10, 11, "w2", "failed")]),
        (job("discarded", 1, {}), [(None, None, None, None, "failed")]),
        (
            job("discarded", 3, {"attempt": "x", "at": 7, "worker": {}, "type": []}),
            [(None, None, None, None, "failed")],
        ),
        # The newest 50 stay.
        (
            job("executing", 60, *(error(n, n) for n in range(10, 60)), attempted_at=at(99)),
            [(n, None, n, None, "retried") for n in range(10, 60)]
            + [(60, 99, None, None, "running")],
        ),
    ],
)
def test_attempts_are_told_as_far_as_the_row_has_them(row, expected):
    assert told(attempts(row)) == expected


def test_an_attempt_tells_its_error_and_how_long_it_took():
    more = {"traceback": "tb", "frame": "a/b.py:1 in f", "cause": "c"}
    (only,) = attempts(job("discarded", 1, error(1, 11, **ran(10), **more)))
    assert (only.type, only.message, only.traceback) == ("ValueError", "m", "tb")
    assert only.frame == "a/b.py:1 in f"
    assert only.seconds == 60
    assert only.fingerprint is not None
    assert only.fingerprint.startswith("ValueError-")
