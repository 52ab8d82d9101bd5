"""A hook, a signal handler or a request may raise: the job is settled and others run."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import celery
import pytest
from celery import Celery
from celery.result import AsyncResult

from ..support.waiting import wait_for
from . import hooked
from .conftest import StartWorker, Worker, producing
from .rows import FINAL, Row, Rows, assert_finished, errors
from .test_hostile_messages import POOLS as ALL_POOLS

#: The pool for coroutines runs these tasks in threads, as threads do.
POOLS = [pool for pool in ALL_POOLS if pool.values != ("custom",)]
#: In each of these the task has returned: nothing that comes afterwards changes that.
AFTER_SUCCESS = ("on_success", "after_return", "signal.task_success", "signal.task_postrun")


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    with producing(hooked.app, url) as app:
        yield app


@pytest.fixture(params=POOLS)
def running(worker: StartWorker, request: pytest.FixtureRequest) -> Worker:
    return worker(pool=request.param, app="tests.e2e.hooked")


def plan() -> dict[tuple[str, str, str], AsyncResult]:
    """Each task with all that may be raised in it: its result."""
    published = {}
    for task in (hooked.early, hooked.late, hooked.ignored, hooked.in_attempts):
        for where in hooked.HOOKS:
            for how in hooked.ERRORS:
                if task is hooked.ignored and how == "exit" and where in AFTER_SUCCESS:
                    continue  # nothing is stored that could say that it had returned
                published[task.name, where, how] = task.delay(where, how)
    for task in (hooked.plain, hooked.plain_late):
        for name in hooked.SIGNALS:
            where = f"signal.{name}"
            published[task.name, where, "exit"] = task.delay(where, "exit")
    for task in (hooked.requested, hooked.requested_late):
        for name in hooked.REQUESTS:
            where = f"request.{name}"
            published[task.name, where, "error"] = task.delay(where, "error")
    return published


def is_known(task: str, where: str, how: str) -> bool:
    """Whether anything says that the task had returned.

    Since Celery 5.7 it only logs an error of these hooks. Before that it takes the error for the
    task's own, and of a task that ignores its result nothing is stored that says otherwise. Celery
    5.5 does so with each Reject, too.
    """
    if celery.VERSION >= (5, 7) or task != hooked.ignored.name:
        return True
    taken = ["error", "unpicklable"]
    if celery.VERSION < (5, 6):
        taken += ["reject", "requeue"]
    return where not in ("on_success", "after_return") or how not in taken


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_without_memory_has_failed(
    pool: str, app: Celery, worker: StartWorker, rows: Rows
) -> None:
    for task in (hooked.exhaust, hooked.exhaust_late):
        running = worker(pool=pool, app="tests.e2e.hooked")
        row = rows.wait(task.delay().id, timeout=30)
        assert_finished(row, "discarded")
        assert errors(row) == [(1, "MemoryError")]
        if pool == "prefork":
            # That is how Celery takes it; the row says the same by then.
            assert wait_for(running.process.poll, 20.0) == 1
        else:
            assert hooked.add.delay(1, 2).get(timeout=20) == 3
            assert running.stop() == 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_errbacks_are_called_once_though_on_failure_raises(
    pool: str, app: Celery, worker: StartWorker, rows: Rows, tmp_path: Path
) -> None:
    worker(pool=pool, app="tests.e2e.hooked")
    for task in (hooked.early, hooked.late, hooked.ignored, hooked.in_attempts):
        path = tmp_path / task.name
        errback = hooked.note.si(str(path))
        result = task.apply_async(("on_failure", "error"), link_error=errback)
        row = rows.wait(result.id)
        attempt = 2 if task is hooked.in_attempts else 1
        assert (row["state"], row["attempt"]) == ("discarded", attempt)
        wait_for(path.exists)
        assert hooked.add.delay(1, 2).get(timeout=20) == 3
        wait_for(lambda: not rows.select("SELECT 1 FROM pgjobs.jobs WHERE finished_at IS NULL"))
        assert path.read_text().splitlines() == ["called"], task.name


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
@pytest.mark.parametrize("where", ["on_failure", "after_return"])
def test_a_hard_time_limit_ends_its_job_though_a_hook_raises(
    where: str, pool: str, app: Celery, worker: StartWorker, rows: Rows
) -> None:
    if find_spec(pool) is None and pool == "gevent":
        pytest.skip("gevent is not installed")
    running = worker(pool=pool, app="tests.e2e.hooked")
    results = [task.delay(where, "error") for task in (hooked.slow, hooked.slow_late) * 2]
    for result in results:
        row = rows.wait(result.id, timeout=30)
        assert_finished(row, "discarded")
        assert errors(row) == [(1, "TimeLimitExceeded")]
    for _ in range(4):
        assert hooked.add.delay(1, 2).get(timeout=20) == 3
    assert running.stop() == 0


def test_what_a_hook_raises_ends_its_job_and_nothing_else(
    running: Worker, app: Celery, rows: Rows
) -> None:
    published = plan()
    for _ in range(4):  # more than there are slots
        assert hooked.add.delay(1, 2).get(timeout=30) == 3, running.log
    found: dict[tuple[str, str, str], Row] = {}

    def unfinished() -> dict[tuple[str, str, str], str]:
        by_id = {row["task_id"]: row for row in rows.select("SELECT * FROM pgjobs.jobs")}
        found.update({key: by_id[result.id] for key, result in published.items()})
        return {key: row["state"] for key, row in found.items() if row["state"] not in FINAL}

    wait_for(lambda: not unfinished(), 30.0, unfinished)
    assert running.process.poll() is None
    for key, row in found.items():
        assert row["state"] == "completed" or row["errors"], key
    # What a PgTask raises before its body is the end of an attempt, and not of the job.
    row = found[hooked.in_attempts.name, "before_start", "error"]
    assert errors(row) == [(1, "RuntimeError"), (2, "RuntimeError")]
    lost = {
        key: row["errors"] for key, row in found.items()
        if key[1] in AFTER_SUCCESS and row["state"] != "completed" and is_known(*key)
    }  # fmt: skip
    assert lost == {}
