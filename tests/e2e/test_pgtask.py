"""PgTask on real workers: attempts, how they end, and what the row says of it, in every pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError

from pgjobs_celery import jobs

from ..conftest import Connection, close_app
from ..support.waiting import wait_for
from . import pgtasks
from .conftest import StartWorker, Worker
from .rows import Row, Rows, assert_finished, errors


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"], autouse=True)
def running(module_worker: StartWorker, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One worker in each pool, for all tests."""
    started = module_worker(pool=request.param, app="tests.e2e.pgtasks")
    yield started
    assert started.stop() == 0


@pytest.fixture
def pool(running: Worker, request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["running"])


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A file with a line for each run."""
    return tmp_path / "ran"


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def errbacks(rows: Rows, result: Any) -> list[Row]:
    """The errbacks that a job has published."""
    return rows.select(
        "SELECT * FROM pgjobs.jobs WHERE parent_id = %s AND task = %s",
        result.id,
        pgtasks.on_error.name,
    )


def test_a_failed_job_runs_again_until_it_succeeds(pgtask_app: Celery, rows: Rows):
    result = pgtasks.fail.delay(2)
    assert result.get(timeout=10) == {"attempt": 3, "max_attempts": 3, "retries": 2}
    row = rows.get(result.id)
    assert_finished(row, attempt=3)
    assert errors(row) == [(1, "ValueError"), (2, "ValueError")]
    assert [entry["message"] for entry in row["errors"]] == ["time 1", "time 2"]
    assert "raise " in row["errors"][0]["traceback"]
    assert row["max_attempts"] == 3


def test_the_last_failure_discards_the_job(pgtask_app: Celery, rows: Rows):
    result = pgtasks.fail.delay(9)
    with pytest.raises(ValueError, match="time 3"):
        result.get(timeout=10)
    assert result.state == "FAILURE"
    row = rows.wait(result.id)
    assert_finished(row, "discarded", attempt=3)
    assert len(row["errors"]) == 3


def test_between_two_attempts_the_job_waits_in_its_row(pgtask_app: Celery, rows: Rows):
    result = pgtasks.fail_as_celery.delay()
    row = rows.wait(result.id, "retryable")
    assert result.state == "RETRY"
    assert isinstance(result.result, ValueError)
    assert (row["attempt"], row["claimed_by"]) == (1, None)
    # Celery's retry_backoff, without its jitter: 1 s after the first.
    assert 0.9 < (row["due_at"] - row["attempted_at"]).total_seconds() < 1.95
    assert row["due_at"] == row["scheduled_at"]
    assert result.get(timeout=10) == 2


@pytest.mark.parametrize(
    ("task", "how", "attempts"),
    [
        (pgtasks.narrow, "OSError", 3),
        (pgtasks.narrow, "FileExistsError", 3),
        (pgtasks.narrow, "ValueError", 1),
        (pgtasks.spare, "FileExistsError", 1),
        (pgtasks.spare, "KeyError", 1),
    ],
)
def test_the_exceptions_that_are_named_decide(
    pgtask_app: Celery, rows: Rows, task: Any, how: str, attempts: int
):
    result = task.delay(how)
    row = rows.wait(result.id)
    assert_finished(row, "completed" if attempts > 1 else "discarded", attempt=attempts)
    assert {kind for _, kind in errors(row)} == {how}


def test_call_options_go_before_those_of_the_task(pgtask_app: Celery, rows: Rows):
    result = pgtasks.fail.apply_async((9,), max_attempts=1, tags=[" Now "], meta={"a": 1})
    row = rows.wait(result.id)
    assert_finished(row, "discarded", attempt=1)
    assert (row["max_attempts"], row["tags"], row["meta"]) == (1, ["now"], {"a": 1})
    signature = pgtasks.fail.s(1).set(max_attempts=2, tags=["later"])
    result = signature.delay()
    assert result.get(timeout=10)["max_attempts"] == 2
    assert rows.get(result.id)["tags"] == ["later"]


def test_who_knows_only_the_name_leaves_it_to_the_worker(pgtask_app: Celery, rows: Rows):
    stranger = Celery("stranger", broker=pgtask_app.conf.broker_url, set_as_current=False)
    row = rows.wait(stranger.send_task(pgtasks.fail.name, (9,)).id)
    assert_finished(row, "discarded", attempt=3)
    row = rows.wait(stranger.send_task(pgtasks.fail.name, (9,), max_attempts=2, tags=["sent"]).id)
    assert_finished(row, "discarded", attempt=2)
    assert (row["max_attempts"], row["tags"]) == (2, ["sent"])
    close_app(stranger)


def test_a_backoff_that_raises_loses_nothing(pgtask_app: Celery, rows: Rows, running: Worker):
    result = pgtasks.fail_without_backoff.delay()
    row = rows.wait(result.id, "retryable")
    assert errors(row) == [(1, "ValueError")]
    assert 16.5 < (row["due_at"] - row["attempted_at"]).total_seconds() < 25
    wait_for(lambda: "its backoff failed; the default is used" in running.log)


@pytest.mark.parametrize("header", ["x", {"meta": 5, "tags": 5}])
def test_a_header_that_a_hand_has_spoilt_holds_up_neither_job_nor_worker(
    pgtask_app: Celery,
    rows: Rows,
    connection: Connection,
    ran: Path,
    pool: str,
    header: Any,
):
    tasks = [(pgtasks.fail, (1,)), *([(pgtasks.die, (str(ran),))] if pool == "prefork" else [])]
    for task, args in tasks:
        result = task.apply_async(args, countdown=3600)
        message = json.loads(rows.get(result.id)["message"])
        message["headers"]["pgjobs"] = header
        connection.execute(
            "UPDATE pgjobs.jobs SET message = %s WHERE task_id = %s",
            [json.dumps(message), result.id],
        )
        assert jobs(pgtask_app).filter(id=result).reschedule(countdown=0) == [result.id]
        wait_for(lambda: errors(rows.get(result.id)))  # noqa: B023
        assert rows.get(result.id)["state"] != "discarded"
        result.revoke()


def test_an_explicit_retry_counts_as_an_attempt(pgtask_app: Celery, rows: Rows):
    result = pgtasks.retry.delay(2)
    assert result.get(timeout=10) == 3
    assert_finished(rows.get(result.id), attempt=3)
    result = pgtasks.retry.delay(9)
    with pytest.raises(ValueError, match="no more"):
        result.get(timeout=10)
    row = rows.wait(result.id)
    assert_finished(row, "discarded", attempt=3)
    assert row["max_attempts"] == 3


@pytest.mark.parametrize(
    ("how", "kinds"),
    [
        ("exc", ["ValueError", "ValueError", "ValueError"]),
        ("none", ["Retry", "Retry", "MaxRetriesExceededError"]),
    ],
)
def test_the_limit_of_an_explicit_retry_is_the_end(
    pgtask_app: Celery, rows: Rows, how: str, kinds: list[str]
):
    row = rows.wait(pgtasks.retry_twice.delay(how).id)
    assert_finished(row, "discarded", attempt=3)
    assert [kind for _, kind in errors(row)] == kinds


def test_a_class_may_handle_what_the_one_it_inherits_from_raises(pgtask_app: Celery, rows: Rows):
    result = pgtasks.heir.delay("x")
    assert result.get(timeout=10) == "handled x in attempt 1"
    row = rows.wait(pgtasks.parent.apply_async(("x",), max_attempts=2).id)
    assert errors(row) == [(1, "ValueError"), (2, "ValueError")]


def test_throws_may_be_a_single_class(pgtask_app: Celery, rows: Rows):
    row = rows.wait(pgtasks.throw.delay().id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, "KeyError")]


def test_a_snooze_that_means_nothing_is_a_failure_like_any_other(pgtask_app: Celery, rows: Rows):
    result = pgtasks.snooze_badly.delay()
    assert result.get(timeout=10) == 2
    row = rows.get(result.id)
    assert errors(row) == [(1, "InvalidOption")]
    assert row["errors"][0]["message"] == "Snooze needs 0 seconds or more, not -1"


@pytest.mark.parametrize("how", ["snooze", "snooze returned", "snooze until"])
def test_a_snooze_costs_no_attempt(pgtask_app: Celery, rows: Rows, how: str):
    result = pgtasks.end.delay(how)
    assert result.get(timeout=10) == 1
    row = rows.get(result.id)
    assert_finished(row)
    assert (row["errors"], row["meta"], row["max_attempts"]) == ([], {"snoozed": 2}, 1)


@pytest.mark.parametrize("how", ["cancel", "cancel returned"])
def test_a_task_may_cancel_its_job(pgtask_app: Celery, rows: Rows, how: str):
    result = pgtasks.end.delay(how)
    row = rows.wait(result.id)
    assert_finished(row, "cancelled")
    assert errors(row) == [(1, "TaskRevokedError")]
    assert result.state == "REVOKED"
    assert str(result.result) == "not wanted"


def test_a_task_may_discard_its_job_whatever_attempts_are_left(pgtask_app: Celery, rows: Rows):
    result = pgtasks.discard.delay()
    row = rows.wait(result.id)
    assert_finished(row, "discarded")
    assert (errors(row), row["max_attempts"]) == ([(1, "Discard")], 20)
    assert result.state == "FAILURE"


def test_celerys_own_words_keep_their_meaning(pgtask_app: Celery, rows: Rows):
    row = rows.wait(pgtasks.end.delay("reject").id)
    assert_finished(row, "discarded")
    result = pgtasks.replace.delay(1)
    assert result.get(timeout=10) == 2
    assert_finished(rows.get(result.id), attempt=2)


def test_a_task_notes_what_it_wants_in_its_meta(pgtask_app: Celery, rows: Rows):
    result = pgtasks.note.apply_async(meta={"call": 1})
    meta = {"team": "mail", "call": 1, "first": [1, {"ü": None}], "and_more": 2}
    assert result.get(timeout=10) == meta
    assert rows.get(result.id)["meta"] == meta


def test_a_killed_process_costs_an_attempt(pgtask_app: Celery, rows: Rows, ran: Path, pool: str):
    if pool != "prefork":
        pytest.skip("the task's process is the worker")
    for task, kind in ((pgtasks.die, "WorkerLostError"), (pgtasks.overrun, "TimeLimitExceeded")):
        path = ran.with_name(task.__name__)
        result = task.delay(str(path))
        assert result.get(timeout=15) == 2
        row = rows.get(result.id)
        assert_finished(row, attempt=2)
        assert errors(row) == [(1, kind)]
        assert lines(path) == 2


@pytest.mark.parametrize("how", ["exit", "cancelled"])
def test_a_task_that_exits_costs_an_attempt(
    how: str, pgtask_app: Celery, rows: Rows, ran: Path, pool: str
):
    result = pgtasks.leave.delay(str(ran), how)
    assert result.get(timeout=15) == 2
    row = rows.get(result.id)
    assert_finished(row, attempt=2)
    assert errors(row) == [(1, "WorkerLostError")]
    assert lines(ran) == 2
    result = pgtasks.leave.apply_async((str(ran.with_name("once")), how), max_attempts=1)
    assert_finished(rows.wait(result.id, timeout=15), "discarded")


def test_a_process_that_is_killed_in_the_last_attempt_discards_the_job(
    pgtask_app: Celery, rows: Rows, ran: Path, pool: str
):
    if pool != "prefork":
        pytest.skip("the task's process is the worker")
    result = pgtasks.die.apply_async((str(ran), 9), link_error=pgtasks.on_error.s())
    row = rows.wait(result.id, timeout=40)  # the pool may take 10 s to call a process lost
    assert_finished(row, "discarded", attempt=2)
    assert errors(row) == [(1, "WorkerLostError"), (2, "WorkerLostError")]
    assert lines(ran) == 2
    wait_for(lambda: errbacks(rows, result))


def test_canvas_goes_on_when_a_step_has_succeeded_at_last(pgtask_app: Celery, rows: Rows):
    steps = chain(pgtasks.fail.si(1), pgtasks.add.si(1, 2), pgtasks.add.s(3))
    assert steps.delay().get(timeout=10) == 6
    members = group(pgtasks.fail.s(1), pgtasks.fail.s(2)).delay()
    assert [each["attempt"] for each in members.get(timeout=10)] == [2, 3]
    body = pgtasks.add.si(1, 1).set(tags=["body"])
    result = chord([pgtasks.fail.s(1), pgtasks.fail.s(0)], body).delay()
    assert result.get(timeout=15) == 2
    assert rows.get(result.id)["tags"] == ["body"]


def test_a_chord_waits_for_attempts_and_snoozes_and_fails_with_what_ends_for_good(
    pgtask_app: Celery,
):
    body = pgtasks.add.si(1, 1)
    survivors = [pgtasks.fail.s(1), pgtasks.end.s("snooze")]
    assert chord(survivors, body).delay().get(timeout=15) == 2
    for ends in (pgtasks.end.s("cancel"), pgtasks.discard.s(), pgtasks.throw.s()):
        result = chord([ends, pgtasks.add.si(1, 1)], body).delay()
        # Where the task's process says nothing of it the net does, but at once.
        wait_for(result.ready, 4)
        assert isinstance(result.result, ChordError)


def test_errbacks_hear_of_the_last_failure_only(pgtask_app: Celery, rows: Rows):
    result = pgtasks.fail.apply_async((9,), link_error=pgtasks.on_error.s())
    rows.wait(result.id)
    (errback,) = wait_for(lambda: errbacks(rows, result))
    assert_finished(rows.wait(errback["task_id"]))
    assert len(errbacks(rows, result)) == 1


def test_a_task_whose_result_is_ignored_is_retried_all_the_same(pgtask_app: Celery, rows: Rows):
    result = pgtasks.fail.apply_async((2,), ignore_result=True)
    row = rows.wait(result.id)
    assert_finished(row, attempt=3, reported="PENDING")  # nothing was ever stored
    assert row["result"] is None
    assert errors(row) == [(1, "ValueError"), (2, "ValueError")]
