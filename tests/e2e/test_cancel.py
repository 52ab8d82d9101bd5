"""A job may be cancelled at any time: what waits never starts, what runs hears of it at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError

from pgjobs_celery import bulk, jobs, queues

from ..conftest import Connection
from ..support.waiting import wait_for
from . import pgtasks
from .conftest import StartWorker, Worker
from .rows import Rows, assert_finished, errors

POLLING = {"broker_transport_options": {"listen": False}}
#: Nothing but a notification makes it look within a test.
LISTENING = {"broker_transport_options": {"poll_interval": 300.0}}
#: Seconds within which a worker that is told has ended a job, also on a busy machine.
SOON = 15.0


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", params=["prefork", "threads", "solo", "polling"], autouse=True)
def running(module_worker: StartWorker, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One worker for all tests, in each pool and without LISTEN."""
    if request.param == "polling":
        started = module_worker(app="tests.e2e.pgtasks", concurrency=1, conf=POLLING)
    else:
        started = module_worker(
            app="tests.e2e.pgtasks", concurrency=1, pool=request.param, conf=LISTENING
        )
    yield started
    assert started.stop() == 0


@pytest.fixture
def pool(running: Worker, request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["running"])


@pytest.fixture
def started(tmp_path: Path) -> Path:
    return tmp_path / "started"


def cancel_in_time(rows: Rows, result: Any, **how: Any) -> dict[str, Any]:
    """Cancel a job that runs; its row once it has ended, which must not take longer."""
    before = time.monotonic()
    assert result.revoke(**how)
    row = rows.wait(result.id)
    assert time.monotonic() - before < SOON
    return row


def test_a_job_that_waits_never_starts(
    pgtask_app: Celery, rows: Rows, started: Path, tmp_path: Path
):
    holding = pgtasks.hold.delay(str(started), str(tmp_path / "release"))
    wait_for(started.exists)
    ran = tmp_path / "ran"
    later = pgtasks.hold.delay(str(ran), str(tmp_path / "release"))
    future = pgtasks.add.apply_async((1, 1), countdown=3600)
    assert len(jobs(pgtask_app).filter(id=[later, future]).cancel("not needed")) == 2
    for result in (later, future):
        assert_finished(rows.get(result.id), "cancelled", attempt=0)
        assert result.state == "REVOKED"
        with pytest.raises(TaskRevokedError, match="not needed"):
            result.get(timeout=5)
    assert not later.revoke()
    (tmp_path / "release").touch()
    assert holding.get(timeout=10) == "released"
    assert pgtasks.add.delay(1, 2).get(timeout=10) == 3
    assert not ran.exists()


def test_a_task_that_runs_is_told_when_it_asks(pgtask_app: Celery, rows: Rows, started: Path):
    result = pgtasks.watch.delay(str(started))
    wait_for(started.exists)
    row = cancel_in_time(rows, result, reason="stop it")
    assert_finished(row, "cancelled")
    assert row["cancel_reason"] == "stop it"
    assert errors(row) == [(1, "TaskRevokedError")]
    assert row["errors"][0]["message"] == "was told"
    assert result.state == "REVOKED"


def test_a_job_that_is_cancelled_is_not_tried_again(pgtask_app: Celery, rows: Rows, started: Path):
    for task, kinds in (
        (pgtasks.fail_when_told, ["ValueError", "TaskRevokedError"]),
        (pgtasks.retry_when_told, ["TaskRevokedError"]),
    ):
        started = started.with_name(task.__name__)
        result = task.delay(str(started))
        wait_for(started.exists)
        row = cancel_in_time(rows, result, reason="stop it")
        assert_finished(row, "cancelled")
        assert [kind for _, kind in errors(row)] == kinds
        assert row["errors"][-1]["message"] == "stop it"
        assert result.state == "REVOKED"


def test_a_task_that_does_not_ask_ends_as_it_would(
    pgtask_app: Celery, rows: Rows, started: Path, tmp_path: Path
):
    result = pgtasks.hold.delay(str(started), str(tmp_path / "release"))
    wait_for(started.exists)
    assert result.revoke(reason="stop it")
    assert rows.get(result.id)["state"] == "executing"
    assert result.state == "PENDING"
    (tmp_path / "release").touch()
    assert result.get(timeout=10) == "released"
    assert_finished(rows.get(result.id))


def test_a_task_may_be_terminated(
    pgtask_app: Celery, rows: Rows, running: Worker, pool: str, started: Path, tmp_path: Path
):
    result = pgtasks.hold.delay(str(started), str(tmp_path / "release"))
    wait_for(started.exists)
    if pool in ("threads", "solo"):
        result.revoke(terminate=True)
        if pool == "threads":
            wait_for(lambda: "cannot be terminated in this pool" in running.log)
        (tmp_path / "release").touch()
        assert result.get(timeout=10) == "released"
        return
    row = cancel_in_time(rows, result, terminate=True, reason="too long")
    assert_finished(row, "cancelled")
    assert row["errors"][-1]["message"] == "too long"
    assert result.state == "REVOKED"
    assert pgtasks.add.delay(1, 2).get(timeout=10) == 3


def test_a_job_may_be_terminated_whose_process_dies_before_it_begins(
    pgtask_app: Celery, rows: Rows, running: Worker, pool: str
):
    if pool in ("threads", "solo"):
        pytest.skip("runs its tasks itself")
    assert pgtasks.add.delay(1, 2).get(timeout=10) == 3
    (child,) = psutil.Process(running.pid).children()
    child.suspend()
    result = pgtasks.add.delay(1, 2)
    rows.wait(result.id, "executing")
    assert result.revoke(terminate=True, reason="too long")
    time.sleep(1.2)  # it was sent to the child, and the worker has heard that it is not wanted
    child.kill()
    row = rows.wait(result.id)
    assert_finished(row, "cancelled")
    assert row["errors"][-1]["message"] == "too long"
    assert pgtasks.add.delay(1, 2).get(timeout=10) == 3


def test_what_is_no_signal_here_ends_neither_the_task_nor_the_worker(
    pgtask_app: Celery, rows: Rows, connection: Connection, started: Path, tmp_path: Path
):
    """Another machine may have others, and a hand may write anything."""
    result = pgtasks.hold.delay(str(started), str(tmp_path / "release"))
    wait_for(started.exists)
    connection.execute(
        "UPDATE pgjobs.jobs SET cancel_signal = 'SIGNONE' WHERE task_id = %s", [result.id]
    )
    assert result.revoke(reason="too long")
    (tmp_path / "release").touch()
    assert result.get(timeout=10) == "released"
    assert pgtasks.add.delay(1, 2).get(timeout=10) == 3


def test_a_job_that_waits_in_the_worker_never_starts(
    pgtask_app: Celery, rows: Rows, pool: str, tmp_path: Path
):
    """For its rate limit: claimed, but not begun."""
    ran = tmp_path / "ran"
    first, second = pgtasks.limited.delay(str(ran)), pgtasks.limited.delay(str(ran))
    rows.wait(first.id)
    rows.wait(second.id, "executing")
    row = cancel_in_time(rows, second, reason="too late")
    assert_finished(row, "cancelled")
    assert row["errors"][-1]["message"] == "too late"
    assert ran.read_text().split() == [first.id]


def test_a_job_that_was_claimed_ahead_never_starts(
    pgtask_app: Celery,
    rows: Rows,
    pool: str,
    started: Path,
    tmp_path: Path,
):
    """Behind quick ones a worker claims more than it can begin."""
    ran, release = tmp_path / "ran", tmp_path / "release"
    queues(pgtask_app).pause("celery")
    with bulk():
        for _ in range(300):
            pgtasks.add.delay(1, 1)
    holding = pgtasks.hold.delay(str(started), str(release))
    later = [pgtasks.hold.delay(str(ran), str(release)) for _ in range(60)]
    queues(pgtask_app).resume("celery")
    wait_for(started.exists)
    assert len(jobs(pgtask_app).filter(id=later).cancel("not needed")) == 60
    if pool != "solo":  # which looks when its task has ended
        for result in later:
            rows.wait(result.id, "cancelled")
    release.touch()
    assert holding.get(timeout=10) == "released"
    for result in later:
        row = rows.wait(result.id)
        assert (row["state"], row["errors"][-1]["message"]) == ("cancelled", "not needed")
    assert not ran.exists()


def test_a_cancelled_job_may_be_retried_on_the_same_worker(pgtask_app: Celery, rows: Rows):
    result = pgtasks.add.apply_async((1, 2), countdown=3600)
    assert result.revoke()
    assert jobs(pgtask_app).filter(id=result).retry() == [result.id]
    assert result.get(timeout=10) == 3


def test_a_worker_passes_jobs_that_have_expired_without_a_wait_between(
    pgtask_app: Celery,
):
    """It acknowledges each in its event loop, which must not wait for news before it does."""
    with bulk():
        late = [pgtasks.add.apply_async((1, 1), expires=-1) for _ in range(2000)]
    expired = jobs(pgtask_app).filter(id=late, state="cancelled")
    wait_for(lambda: expired.count() == len(late), SOON)
