"""Steps, sleeps and signals on real workers, in every pool."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError

from pgjobs_celery import Key, jobs, signal
from pgjobs_celery.errors import SignalTimeout, StepNotRemembered

from ..conftest import Connection
from ..support.waiting import wait_for
from . import steptasks
from .conftest import StartWorker, Worker, producing
from .rows import Rows


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


POOLS = [
    *("prefork", "threads", "solo", "aio"),
    *(each for each in ("gevent", "eventlet") if find_spec(each)),
]


@pytest.fixture(scope="module", params=POOLS, autouse=True)
def running(module_worker: StartWorker, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One worker in each pool, for all tests."""
    pool = "custom" if request.param == "aio" else request.param
    env = {"CELERY_CUSTOM_WORKER_POOL": "pgjobs_celery.worker.aio:TaskPool"}
    started = module_worker(pool=pool, app="tests.e2e.steptasks", env=env)
    yield started
    assert started.stop() == 0


@pytest.fixture
def step_app(url: str) -> Iterator[Celery]:
    with producing(steptasks.app, url) as app:
        yield app


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A file with a line for each effect."""
    return str(tmp_path / "effects")


def lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def wait(rows: Rows, result: Any) -> Any:
    """The row of a job that waits, once it does."""
    return wait_for(lambda: rows.select(
        "SELECT j.*, w.name, w.until FROM pgjobs.jobs AS j JOIN pgjobs.waits AS w ON w.job = j.id"
        " WHERE j.task_id = %s AND j.state = 'scheduled'", result.id
    ))[0]  # fmt: skip


def steps(rows: Rows, result: Any) -> list[tuple[str, str]]:
    found = rows.select(
        "SELECT s.name, s.kind FROM pgjobs.steps AS s JOIN pgjobs.jobs AS j ON j.id = s.job"
        " WHERE j.task_id = %s ORDER BY s.recorded_at",
        result.id,
    )
    return [(row["name"], row["kind"]) for row in found]


def test_a_step_runs_once_whatever_fails_behind_it(step_app: Celery, rows: Rows, path: str):
    result = steptasks.fail_between.delay(path, 2)
    assert result.get(timeout=20) == ["charge done", "mail done", 3]
    assert lines(path) == ["charge", "mail"]
    assert steps(rows, result) == [("charge", "step"), ("mail", "step")]


def test_steps_of_a_loop_are_numbered(step_app: Celery, rows: Rows, path: str):
    result = steptasks.loop.delay(path, 3)
    assert result.get(timeout=20) == ["part 0 done", "part 1 done", "part 2 done"]
    assert lines(path) == ["part 0", "part 1", "part 2"]
    assert [name for name, _ in steps(rows, result)] == ["part", "part#2", "part#3"]


def test_a_retry_by_the_task_itself_keeps_the_steps(step_app: Celery, rows: Rows, path: str):
    result = steptasks.leave.delay(path, "retry", 2)
    assert result.get(timeout=20) == 3
    assert lines(path).count("charge") == 1


def test_a_sleep_costs_no_attempt_and_no_handler_sees_it(step_app: Celery, rows: Rows, path: str):
    result = steptasks.sleep.delay(path, 0.2)
    assert result.get(timeout=20) == ["after done", 1]
    assert lines(path) == ["before", "after"]
    assert steps(rows, result)[1:3] == [("sleep", "sleep"), ("sleep#2", "sleep")]
    row = rows.get(result.id)
    assert (row["attempt"], row["meta"]["snoozed"]) == (1, 2)
    assert not rows.select("SELECT * FROM pgjobs.waits")


def test_a_signal_wakes_the_job_that_waits(step_app: Celery, rows: Rows, path: str):
    result = steptasks.approve.delay(path)
    row = wait(rows, result)
    assert (row["attempt"], row["claimed_by"], row["name"], row["until"]) == (
        0, None, "approved", None
    )  # fmt: skip
    assert result.signal("approved", {"by": "alice"})
    assert result.get(timeout=20) == [{"by": "alice"}, 1]
    assert lines(path) == ["ask", "tell"]


def test_a_signal_before_the_wait_is_kept(step_app: Celery, rows: Rows, path: str):
    assert signal(step_app, "early", "approved", 1)
    assert signal(step_app, "early", "approved", 2)
    result = steptasks.approve.apply_async((path,), {"count": 2}, task_id="early")
    assert result.get(timeout=20) == [1, 2, 1]


def test_the_first_signal_wins_where_that_is_asked_for(step_app: Celery, rows: Rows, path: str):
    result = steptasks.approve.delay(path)
    wait(rows, result)
    assert result.signal("approved", "yes", first=True)
    assert not result.signal("approved", "no", first=True)
    assert result.get(timeout=20) == ["yes", 1]
    assert not result.signal("approved", "no", first=True)


def test_a_job_is_found_by_its_key(step_app: Celery, rows: Rows, path: str):
    result = steptasks.approve.delay(path, key="order-42")
    wait(rows, result)
    assert signal(step_app, Key("order-41"), "approved", "no")
    assert signal(step_app, Key("order-42"), "approved", "yes")
    assert result.get(timeout=20) == ["yes", 1]


def test_a_signal_in_a_transaction_counts_with_its_commit(
    step_app: Celery, rows: Rows, path: str, url: str
):
    import psycopg

    from pgjobs_celery import using
    from pgjobs_celery.db.dsn import parse_url

    result = steptasks.approve.delay(path)
    wait(rows, result)
    with psycopg.connect(parse_url(url)) as connection:
        with using(connection):
            result.signal("approved", "rolled back")
        connection.rollback()
        with using(connection):
            result.signal("approved", "committed")
        assert wait(rows, result)
    assert result.get(timeout=20) == ["committed", 1]


def test_a_wait_that_times_out_is_remembered(step_app: Celery, rows: Rows, path: str):
    result = steptasks.approve_or.delay(0.1)
    assert result.get(timeout=20) == "nobody"
    assert steps(rows, result) == [("approved", "timeout"), ("late", "timeout")]


def test_a_timeout_that_nobody_handles_ends_the_job(step_app: Celery, rows: Rows, path: str):
    result = steptasks.insist.delay(0.1)
    with pytest.raises(SignalTimeout, match="approved"):
        result.get(timeout=20)
    assert rows.wait(result.id, "discarded")["attempt"] == 1


def test_a_coroutine_waits_as_well(step_app: Celery, rows: Rows, path: str):
    result = steptasks.approve_async.delay(path)
    wait_for(lambda: rows.select("SELECT FROM pgjobs.waits WHERE name = 'approved'"))
    result.signal("approved", ["x"])
    assert result.get(timeout=20) == ["ask done", ["x"], "tell done"]
    assert lines(path) == ["ask", "tell"]


def test_a_task_that_catches_everything_gets_no_further(step_app: Celery, rows: Rows, path: str):
    result = steptasks.swallow.delay(path)
    wait(rows, result)
    result.signal("approved", "yes")
    assert result.get(timeout=20) == "yes"
    assert "tell" not in lines(path)


def test_a_job_that_waits_can_be_cancelled(step_app: Celery, rows: Rows, path: str):
    result = steptasks.approve.delay(path)
    wait(rows, result)
    assert result.revoke(reason="no more")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)
    result.signal("approved", "late")
    jobs(step_app).filter(id=result.id).retry()
    assert steptasks.approve.AsyncResult(result.id).get(timeout=20) == ["late", 1]


@pytest.mark.parametrize("how", ["large", "odd"])
def test_a_value_that_cannot_be_kept_is_an_error_for_good(
    step_app: Celery, rows: Rows, path: str, how: str
):
    result = steptasks.too_much.delay(path, how)
    with pytest.raises(StepNotRemembered):
        result.get(timeout=20)
    assert lines(path) == ["run"]


def test_rows_and_memory_commit_together(
    step_app: Celery, rows: Rows, connection: Connection, path: str
):
    connection.execute("CREATE TABLE IF NOT EXISTS public.entered (task_id text)")
    result = steptasks.ledger.delay("public.entered", 2)
    assert result.get(timeout=20) == 3
    booked = rows.select("SELECT * FROM public.entered WHERE task_id = %s", result.id)
    assert len(booked) == 1
    assert steps(rows, result) == [("book", "step")]


def test_a_step_is_part_of_the_transaction_with_the_outcome(
    step_app: Celery, rows: Rows, connection: Connection, path: str
):
    connection.execute("CREATE TABLE IF NOT EXISTS public.entered (task_id text)")
    result = steptasks.settle.delay("public.entered", 2)
    assert result.get(timeout=20) == 3
    booked = rows.select("SELECT * FROM public.entered WHERE task_id = %s", result.id)
    assert len(booked) == 1
    assert steps(rows, result) == [("book", "step")]
