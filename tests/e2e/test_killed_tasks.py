"""Tasks that kill their process, or are killed for taking too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import celery
import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Rows, assert_finished, errors


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", autouse=True)
def running(module_worker: StartWorker) -> Worker:
    """One worker for all tests, with processes to spare: a new one takes seconds to come."""
    return module_worker(pool="prefork", concurrency=8)


def runs(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("task", [tasks.die, tasks.die_late])
def test_a_task_that_kills_its_process_is_discarded(
    task: Any, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = task.delay(str(tmp_path / "runs"))
    with pytest.raises(WorkerLostError, match="signal 9"):
        result.get(timeout=15)
    row = rows.get(result.id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, "WorkerLostError")]
    assert runs(tmp_path / "runs") == 1


def test_a_task_that_leaves_its_process_is_discarded(app: Celery, rows: Rows) -> None:
    result = tasks.leave.delay()
    # Since Celery 5.7 the process ends; before, it is an error of the task like any other.
    with pytest.raises((WorkerLostError, SystemExit)) as caught:
        result.get(timeout=15)
    row = rows.get(result.id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, caught.type.__name__)]


def test_a_task_that_is_rejected_when_its_worker_is_lost_runs_again(
    app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = tasks.die_and_come_back.delay(str(tmp_path / "runs"))
    assert result.get(timeout=20) == "survived"
    row = rows.get(result.id)
    assert_finished(row, attempt=2)
    assert row["redelivered"]
    assert errors(row) == [(1, "WorkerLostError")]
    assert runs(tmp_path / "runs") == 2


@pytest.mark.skipif(
    not hasattr(celery.Task, "retry_on_worker_lost"), reason="a setting of Celery 5.7"
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_task_that_is_retried_when_its_worker_is_lost_waits_as_retryable(
    times: int, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = tasks.die_and_retry.delay(str(tmp_path / "runs"), times)
    if times == 1:
        assert result.get(timeout=20) == 1
        row = rows.get(result.id)
        assert_finished(row, attempt=2)
    else:
        with pytest.raises(WorkerLostError):
            result.get(timeout=20)
        row = rows.get(result.id)
        assert_finished(row, "discarded", attempt=3)
    assert errors(row) == [(attempt + 1, "WorkerLostError") for attempt in range(times)]
    assert row["redelivered"]  # what it has published it may publish again
    assert runs(tmp_path / "runs") == row["attempt"]


def test_a_task_that_always_kills_its_process_stops_at_the_delivery_limit(
    app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = tasks.die_and_come_back.apply_async((str(tmp_path / "runs"), 100), countdown=0.5)
    rows.select(
        "UPDATE pgjobs.jobs SET max_attempts = 1 WHERE task_id = %s RETURNING id", result.id
    )
    row = rows.wait(result.id, timeout=30)
    assert_finished(row, "discarded", attempt=1)
    assert errors(row) == [(1, "WorkerLostError")]
    assert "delivered 1 times" in row["errors"][0]["message"]
    assert runs(tmp_path / "runs") == 1
    assert result.state == "FAILURE"
    with pytest.raises(Exception, match="1 times"):
        result.get(timeout=5)


def test_a_retry_that_was_published_runs_though_its_process_died(
    app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = tasks.retry_and_die.delay(str(tmp_path / "runs"))
    row = rows.wait(result.id, timeout=20)
    assert_finished(row, attempt=2)
    assert result.get(timeout=5) == "second run"
    assert runs(tmp_path / "runs") == 2


def test_a_step_of_a_chain_that_was_published_twice_runs_once(
    app: Celery, rows: Rows, tmp_path: Path
) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    following = (tasks.die_afterwards.si(first, second) | tasks.record.si(second, 1)).delay()
    assert following.get(timeout=20) == 1
    row = rows.wait(following.parent.id, timeout=20)
    assert_finished(row, attempt=2)
    assert runs(tmp_path / "first") == 2
    assert_finished(rows.get(following.id))
    assert runs(tmp_path / "second") == 1


@pytest.mark.parametrize("task", [tasks.sleep, tasks.sleep_late])
def test_a_task_that_exceeds_its_hard_time_limit_is_discarded(
    task: Any, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    called = tmp_path / "called"
    errback = tasks.record.si(str(called), 1)
    result = task.apply_async((60,), time_limit=0.5, link_error=errback)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=15)
    row = rows.wait(result.id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, "TimeLimitExceeded")]
    # The worker claims it once it has said all that there is to say of the other.
    assert tasks.add.delay(1, 2).get(timeout=15) == 3
    wait_for(lambda: not rows.select("SELECT 1 FROM pgjobs.jobs WHERE finished_at IS NULL"), 15)
    assert runs(called) == 1


def test_a_task_that_exceeds_its_soft_time_limit_fails(app: Celery, rows: Rows) -> None:
    result = tasks.sleep.apply_async((60,), soft_time_limit=0.5)
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(timeout=15)
    row = rows.get(result.id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, "SoftTimeLimitExceeded")]


def test_a_task_may_heed_its_soft_time_limit(app: Celery, rows: Rows, tmp_path: Path) -> None:
    result = tasks.stop_softly.apply_async((str(tmp_path / "runs"),), soft_time_limit=0.5)
    assert result.get(timeout=15) == "stopped"
    assert_finished(rows.get(result.id))


def test_a_time_limit_that_does_not_acknowledge_has_the_task_run_again(
    app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = tasks.hang_once.apply_async((str(tmp_path / "runs"),), time_limit=1)
    assert result.get(timeout=20) == "second run"
    row = rows.get(result.id)
    assert_finished(row, attempt=2)
    assert row["redelivered"]
    assert errors(row) == [(1, "TimeLimitExceeded")]
    assert runs(tmp_path / "runs") == 2
