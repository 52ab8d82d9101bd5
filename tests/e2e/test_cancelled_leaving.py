"""A job may be cancelled while its worker leaves: what runs hears of it as before."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery

from pgjobs_celery import jobs

from ..support.waiting import wait_for
from . import pgtasks
from .conftest import StartWorker, Worker, producing
from .rows import Rows

needs_greenlet = pytest.mark.skipif(not find_spec("greenlet"), reason="greenlet is not installed")

#: How a worker is told to leave while tasks go on, what it says, and its settings: the pause is
#: longer than any test.
LEAVING: dict[str, tuple[int, str, dict[str, Any]]] = {
    "warm": (signal.SIGTERM, "Warm shutdown", {}),
    "soft": (
        signal.SIGQUIT, "Initiating Soft Shutdown", {"worker_soft_shutdown_timeout": 600.0}
    ),
}  # fmt: skip


@pytest.fixture(params=LEAVING)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    with producing(pgtasks.app, url) as app:
        yield app


def until_begun(app: Celery, worker: Worker) -> None:
    """Until the worker has heard that a task has begun: it pauses only where one runs."""
    inspect = app.control.inspect(destination=[worker.name], timeout=5)
    wait_for(
        lambda: any(each["time_start"] for each in (inspect.active() or {}).get(worker.name, ()))
    )


def leave(worker: Worker, way: str) -> None:
    """Tell the worker to leave, and wait until it does."""
    number, words, _ = LEAVING[way]
    worker.send(number)
    wait_for(lambda: words.lower() in worker.log.lower())


def verify_end(worker: Worker, rows: Rows, result: Any, way: str) -> None:
    """A worker that has waited for its last task leaves, and the row says how that has ended."""
    if way == "soft":
        # In the midst of its pause, which may hold up the row: the handler of its signal may stand
        # on top of a claim.
        worker.kill()
        return
    assert worker.process.wait(30) == 0
    row = rows.get(result.id)
    assert (row["state"], row["cancel_reason"]) == ("cancelled", "too late")


def cancel(result: Any, **how: Any) -> None:
    jobs(result.app).filter(id=result.id).cancel("too late", **how)


@needs_greenlet
@pytest.mark.parametrize("terminate", [False, True])
def test_a_coroutine_is_told(
    url: str, worker: StartWorker, rows: Rows, way: str, terminate: bool
) -> None:
    # Its tasks ask for another pool, and not every test may import that.
    coroutines = importlib.import_module("tests.e2e.coroutine_tasks")
    leaving = worker(
        app="tests.e2e.coroutine_tasks", pool="custom", concurrency=10, conf=LEAVING[way][2],
        env={"CELERY_CUSTOM_WORKER_POOL": "pgjobs_celery.worker.aio:TaskPool"},
    )  # fmt: skip
    with producing(coroutines.app, url):
        result = coroutines.wait.delay()
        until_begun(coroutines.app, leaving)
        leave(leaving, way)

        cancel(result, terminate=terminate)
        wait_for(lambda: "wait: cleaned up" in leaving.log)
        verify_end(leaving, rows, result, way)


@pytest.mark.parametrize(
    ("pool", "way"),
    # In a soft shutdown the end of a process' task may be read only when the pause is over.
    [("prefork", "warm"), ("threads", "warm"), ("threads", "soft")],
)
def test_a_task_is_told_when_it_asks(
    app: Celery, worker: StartWorker, rows: Rows, tmp_path: Path, way: str, pool: str
) -> None:
    leaving = worker(app="tests.e2e.pgtasks", pool=pool, conf=LEAVING[way][2])
    result = pgtasks.watch.delay(str(tmp_path / "started"))
    wait_for((tmp_path / "started").exists)
    until_begun(app, leaving)
    leave(leaving, way)

    cancel(result)
    wait_for(lambda: f"watch[{result.id}] ignored" in leaving.log)
    verify_end(leaving, rows, result, way)


def test_the_process_of_a_task_is_killed(
    app: Celery, worker: StartWorker, rows: Rows, tmp_path: Path, way: str
) -> None:
    leaving = worker(app="tests.e2e.pgtasks", conf=LEAVING[way][2])
    result = pgtasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "never"))
    until_begun(app, leaving)  # before, it does not know in which process
    leave(leaving, way)

    cancel(result, terminate=True)
    process = int((tmp_path / "started").read_text())
    wait_for(lambda: has_ended(process))
    verify_end(leaving, rows, result, way)


def has_ended(process: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    return True
