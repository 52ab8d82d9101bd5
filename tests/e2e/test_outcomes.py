"""What becomes of a task is in its row: in every pool, acknowledged early or late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery, chain
from celery.exceptions import MaxRetriesExceededError

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Row, Rows, assert_finished, errors


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"], autouse=True)
def running(module_worker: StartWorker, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One worker in each pool, for all tests."""
    started = module_worker(pool=request.param)
    yield started
    assert started.stop() == 0


@pytest.fixture
def latch(tmp_path: Path) -> tuple[str, str]:
    """Two files for ``tasks.hold``: the task says that it began, and is told to end."""
    return str(tmp_path / "started"), str(tmp_path / "release")


def node_of(rows: Rows, worker: Worker) -> object:
    """The id under which a worker claims."""
    return next(node for node, name in rows.nodes().items() if name == worker.name)


def assert_held(row: Row, node: object, attempt: int = 1) -> None:
    assert (row["state"], row["attempt"], row["claimed_by"]) == ("executing", attempt, node)
    assert row["finished_at"] is None
    assert row["attempted_at"] is not None


@pytest.mark.parametrize("task", [tasks.hold, tasks.hold_late])
def test_a_row_says_executing_until_the_outcome_is_known(
    task: Any, app: Celery, rows: Rows, running: Worker, latch: tuple[str, str]
) -> None:
    result = task.delay(*latch)
    wait_for(Path(latch[0]).exists)
    row = rows.get(result.id)
    assert_held(row, node_of(rows, running))
    assert row["attempted_by"] == running.name
    assert result.state == "PENDING"
    Path(latch[1]).touch()
    assert result.get(timeout=10) == "released"
    assert_finished(rows.get(result.id))


def test_a_task_that_is_tracked_says_started_while_it_runs(
    app: Celery, rows: Rows, running: Worker, latch: tuple[str, str]
) -> None:
    result = tasks.hold_tracked.delay(*latch)
    wait_for(Path(latch[0]).exists)
    assert result.state == "STARTED"
    assert result.info == {"pid": int(Path(latch[0]).read_text()), "hostname": running.name}
    assert_held(rows.get(result.id), node_of(rows, running))
    Path(latch[1]).touch()
    assert result.get(timeout=10) == "released"
    assert_finished(rows.get(result.id))


def test_a_state_of_the_tasks_own_is_seen_while_it_runs(
    app: Celery, rows: Rows, running: Worker, latch: tuple[str, str]
) -> None:
    result = tasks.report_progress.delay(latch[1])
    wait_for(lambda: result.state == "PROGRESS")
    assert result.info == {"done": 1, "total": 2}
    assert_held(rows.get(result.id), node_of(rows, running))
    Path(latch[1]).touch()
    assert result.get(timeout=10) == "done"
    assert_finished(rows.get(result.id))


@pytest.mark.parametrize("task", [tasks.record, tasks.record_late])
def test_a_task_that_returns_is_completed_with_its_result(
    task: Any, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = task.delay(str(tmp_path / "lines"), {"a": [1, None]})
    assert result.get(timeout=10) == {"a": [1, None]}
    row = rows.get(result.id)
    assert_finished(row)
    assert (row["result_type"], row["result"]) == ("application/json", b'{"a": [1, null]}')
    assert errors(row) == []


@pytest.mark.parametrize("task", [tasks.fail, tasks.fail_late, tasks.fail_unacknowledged])
def test_a_task_that_raises_is_discarded_with_its_error(task: Any, app: Celery, rows: Rows) -> None:
    result = task.delay()
    with pytest.raises(tasks.CustomError):
        result.get(timeout=10)
    row = rows.get(result.id)
    assert_finished(row, "discarded")
    (entry,) = row["errors"]
    assert (entry["attempt"], entry["type"]) == (1, "CustomError")
    assert "Traceback" in entry["traceback"]
    assert result.state == "FAILURE"


@pytest.mark.parametrize("task", [tasks.retry, tasks.retry_late])
def test_a_task_that_retries_at_once_runs_again_under_its_id(
    task: Any, app: Celery, rows: Rows
) -> None:
    result = task.delay(2)
    assert result.get(timeout=10) == 2
    row = rows.get(result.id)
    assert_finished(row, attempt=3)
    # The next attempt may be over before the process of the last has said why it failed.
    both = [(1, "CustomError"), (2, "CustomError")]
    wait_for(lambda: sorted(errors(rows.get(result.id))) == both)


@pytest.mark.parametrize("task", [tasks.retry, tasks.retry_late])
def test_a_task_that_retries_later_waits_as_retryable(task: Any, app: Celery, rows: Rows) -> None:
    result = task.delay(1, countdown=1)
    row = rows.wait(result.id, "retryable")
    assert (row["attempt"], row["claimed_by"], row["finished_at"]) == (1, None, None)
    assert row["due_at"] == row["scheduled_at"] > row["attempted_at"]
    wait_for(lambda: result.state == "RETRY")
    assert result.get(timeout=10) == 1
    row = rows.get(result.id)
    assert_finished(row, attempt=2)
    assert errors(row) == [(1, "CustomError")]
    assert 0 <= (row["attempted_at"] - row["scheduled_at"]).total_seconds() < 2


def test_a_task_that_retried_in_vain_is_discarded_with_every_error(app: Celery, rows: Rows) -> None:
    result = tasks.retry_in_vain.delay()
    with pytest.raises(tasks.CustomError, match="in vain"):
        result.get(timeout=10)
    row = rows.get(result.id)
    assert_finished(row, "discarded", attempt=2)
    both = [(1, "CustomError"), (2, "CustomError")]
    wait_for(lambda: sorted(errors(rows.get(result.id))) == both)


def test_autoretry_runs_a_task_until_its_retries_are_used_up(app: Celery, rows: Rows) -> None:
    result = tasks.autoretry.delay()
    with pytest.raises((tasks.CustomError, MaxRetriesExceededError)):
        result.get(timeout=10)
    row = rows.get(result.id)
    assert_finished(row, "discarded", attempt=3)
    wait_for(lambda: sorted(number for number, _ in errors(rows.get(result.id))) == [1, 2, 3])


@pytest.mark.parametrize("task", [tasks.ignore, tasks.ignore_late])
def test_a_task_that_is_ignored_is_completed_without_a_result(
    task: Any, app: Celery, rows: Rows
) -> None:
    row = rows.wait(task.delay().id)
    assert_finished(row)
    assert (row["result"], row["errors"]) == (None, [])


@pytest.mark.parametrize("task", [tasks.reject, tasks.reject_early])
def test_a_task_that_is_rejected_is_discarded(task: Any, app: Celery, rows: Rows) -> None:
    result = task.delay()
    row = rows.wait(result.id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, "Reject")]
    assert result.state == "FAILURE"


def test_a_task_that_is_put_back_runs_again_and_knows_it(app: Celery, rows: Rows) -> None:
    result = tasks.reject.delay(requeue=True)
    assert result.get(timeout=10) == "second delivery"
    row = rows.get(result.id)
    assert_finished(row, attempt=2)
    assert row["redelivered"]


def test_a_task_whose_result_is_ignored_is_completed(
    app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = tasks.ignored.delay(str(tmp_path / "lines"))
    row = rows.wait(result.id)
    assert_finished(row)
    assert row["result"] is None
    assert (tmp_path / "lines").read_text() == "ran\n"


def test_a_task_whose_result_is_ignored_is_discarded_when_it_raises(
    app: Celery, rows: Rows
) -> None:
    result = tasks.fail.apply_async(ignore_result=True)
    row = rows.wait(result.id)
    # Celery 5.5 stores the failure although the caller ignores the result.
    is_stored = celery.VERSION < (5, 6)
    assert_finished(row, "discarded", reported=None if is_stored else "PENDING")
    assert errors(row) == [(1, "CustomError")]
    assert (row["result"] is not None) == is_stored


@pytest.mark.parametrize("length", [10, 200_000])
def test_a_result_of_any_size_is_stored(length: int, app: Celery, rows: Rows) -> None:
    result = tasks.big.delay(length)
    assert result.get(timeout=10) == "x" * length
    row = rows.get(result.id)
    assert_finished(row)
    assert len(row["result"]) == length + 2


def test_a_result_that_cannot_be_serialised_fails_the_task(app: Celery, rows: Rows) -> None:
    result = tasks.return_unserializable.delay()
    with pytest.raises(Exception, match=r"(?i)serializable"):
        result.get(timeout=10)
    row = rows.get(result.id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, "EncodeError")]


def test_an_exception_that_cannot_be_rebuilt_keeps_its_message(app: Celery, rows: Rows) -> None:
    result = tasks.fail_unpicklable.delay()
    with pytest.raises(Exception, match="because of the weather"):
        result.get(timeout=10)
    row = rows.get(result.id)
    assert_finished(row, "discarded")
    assert "because of the weather" in row["errors"][0]["message"]


def test_a_task_finds_what_celery_does_not_know_among_the_properties(app: Celery) -> None:
    task = tasks.tell_property
    plain = task.apply_async(("my_user_id",), my_user_id="42")
    retried = task.apply_async(("my_user_id", 1), my_user_id="42")
    step = task.si("my_user_id").set(my_user_id="43")
    chained = chain(task.si("my_user_id"), step).apply_async()
    assert (plain.get(timeout=10), retried.get(timeout=10), chained.get(timeout=10)) == (
        "42",
        "42",
        "43",
    )
