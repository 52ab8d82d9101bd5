"""The pool's children come and go while their tasks run: by size, by memory, by number of tasks."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import bulk

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows

COUNT = 240


def publish(path: Path) -> None:
    """Short and longer ones, early and late."""
    with bulk():
        for number in range(COUNT):
            task = (tasks.sleep, tasks.sleep_late)[number % 2]
            task.delay((0.0, 0.02, 0.2)[number % 3], str(path))


def assert_each_ran_once(rows: Rows, path: Path) -> None:
    rows.wait_count(timeout=60, completed=COUNT)
    again = rows.select("SELECT task, errors FROM pgjobs.jobs WHERE attempt > 1 OR errors <> '[]'")
    assert again == []
    assert len(path.read_text().splitlines()) == COUNT


def grow_and_shrink(app: Celery, name: str, is_over: threading.Event) -> None:
    """As fast as the worker does it."""
    while not is_over.is_set():
        app.control.pool_grow(3, destination=[name], reply=True, timeout=5)
        app.control.pool_shrink(3, destination=[name], reply=True, timeout=5)


def test_a_pool_that_grows_and_shrinks_while_it_is_busy_loses_nothing(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(concurrency=4)
    is_over = threading.Event()
    thread = threading.Thread(target=grow_and_shrink, args=(app, started.name, is_over))
    thread.start()
    try:
        publish(tmp_path / "runs")
        assert_each_ran_once(rows, tmp_path / "runs")
    finally:
        is_over.set()
        thread.join()
    assert started.stop() == 0


def test_a_pool_that_scales_itself_loses_nothing(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(args=["--autoscale", "8,1"], env={"AUTOSCALE_KEEPALIVE": "0.3"})
    for number in range(3):
        path = tmp_path / f"runs{number}"
        publish(path)
        assert_each_ran_once(rows, path)
        wait_for(lambda: len(started.children()) < 4)
        rows.select("DELETE FROM pgjobs.jobs RETURNING 1")
    assert started.stop() == 0


@pytest.mark.parametrize("option", ["--max-memory-per-child", "--max-tasks-per-child"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGCONT])
def test_children_that_are_replaced_after_each_task_lose_nothing(
    option: str, number: int, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(concurrency=4, args=[option, "1"])
    results: list[Any] = [
        task.delay(0.3, str(tmp_path / "runs")) for task in (tasks.sleep, tasks.sleep_late) * 2
    ]
    wait_for((tmp_path / "runs").exists)
    wait_for(lambda: len((tmp_path / "runs").read_text().splitlines()) == 4)
    started.send(signal.SIGSTOP)
    threading.Event().wait(1.0)  # the stall itself: they end in it
    started.send(signal.SIGCONT)
    started.send(number)
    for result in results:
        row = rows.wait(result.id)
        assert (row["state"], row["attempt"], row["errors"]) == ("completed", 1, [])
