"""The moments of a job and what lies between them: a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pgjobs_celery.control.timeline import Try, segments, timeline
from pgjobs_celery.job.states import State

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=timezone.utc)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


PUBLISHED = at(-100)


@dataclass
class Row:
    state: State
    attempt: int = 0
    inserted_at: datetime | None = PUBLISHED
    scheduled_at: datetime | None = PUBLISHED
    due_at: datetime | None = None
    attempted_at: datetime | None = None
    attempted_by: str | None = "w1"
    cancel_requested_at: datetime | None = None
    finished_at: datetime | None = None


def told(row: Row, *tries: Try) -> list[str]:
    words = []
    for each in timeline(row, tries, NOW):
        span = "" if each.span is None else f"{each.did} {each.span.total_seconds():g} "
        words.append(span + each.kind + (" ahead" if each.is_ahead else ""))
    return words


def test_a_job_that_has_completed_at_once():
    row = Row(State.COMPLETED, 1, attempted_at=at(-90), finished_at=at(-50))
    assert told(row) == ["published", "waited 10 began", "ran 40 completed"]


def test_a_job_that_waits_for_its_time():
    row = Row(State.SCHEDULED, scheduled_at=at(50), due_at=at(50))
    assert told(row) == ["published", "delayed 150 due ahead"]


def test_a_countdown_is_no_wait_for_a_worker():
    row = Row(State.COMPLETED, 1, scheduled_at=at(-60), attempted_at=at(-59), finished_at=at(-58))
    assert told(row) == ["published", "delayed 40 due", "waited 1 began", "ran 1 completed"]


def test_attempts_of_which_only_the_end_is_known():
    row = Row(State.RETRYABLE, 1, scheduled_at=at(5), due_at=at(5), attempted_at=at(-40))
    failed = Try(1, ended=at(-30), error="KeyError")
    assert told(row, failed) == [
        "published", "waited 60 began", "ran 10 failed", "delayed 35 due ahead",
    ]  # fmt: skip


def test_attempts_that_are_known_in_full():
    row = Row(State.DISCARDED, 2, scheduled_at=at(-50), attempted_at=at(-40), finished_at=at(-30))
    tries = (
        Try(1, at(-90), at(-80), "w1", "KeyError"),
        Try(2, at(-40), at(-30), "w2", "OSError", True),
    )
    assert told(row, *tries) == [
        "published", "waited 10 began", "ran 10 failed", "delayed 30 due", "waited 10 began",
        "ran 10 discarded",
    ]  # fmt: skip
    last = timeline(row, tries, NOW)[-1]
    assert (last.error, last.attempt) == ("OSError", 2)


def test_a_job_that_runs_has_run_until_now():
    row = Row(State.EXECUTING, 1, attempted_at=at(-20), cancel_requested_at=at(-5))
    assert told(row) == [
        "published", "waited 80 began", "ran 15 cancel_requested", "ran 5 running",
    ]  # fmt: skip


def test_a_job_that_was_cancelled_before_it_began():
    row = Row(State.CANCELLED, finished_at=at(-10))
    assert told(row) == ["published", "waited 90 cancelled"]


def test_many_attempts_are_folded_but_for_the_first_and_the_last():
    tries = [Try(n, at(-100 + n), at(-99.5 + n), "w1", "E", n == 20) for n in range(1, 21)]
    row = Row(State.DISCARDED, 20, attempted_at=at(-80), finished_at=at(-79.5))
    moments = timeline(row, tries, NOW)
    parts = segments(moments)
    assert [is_folded for is_folded, _ in parts] == [False, True, False]
    assert {each.attempt for each in parts[1][1]} == set(range(3, 18))
    assert [each for _, part in parts for each in part] == moments
    few = timeline(row, tries[:5], NOW)
    assert segments(few) == [(False, few)]


def test_clocks_that_disagree_make_no_negative_span():
    row = Row(State.COMPLETED, 1, inserted_at=at(0), attempted_at=at(-10), finished_at=at(-20))
    assert all(each.span is None or each.span >= timedelta() for each in timeline(row, (), NOW))
