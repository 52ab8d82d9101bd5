"""What a child of the pool was sent it runs: nobody else may, and somebody must listen.

Celery's pool forgets such a task when the connection is lost and when the worker leaves, until the
child has said that it begins. A stopped child (SIGSTOP) is one that takes its time to say so.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Rows, assert_finished, errors
from .test_faults import TERMINATE, recorded

TASKS = [tasks.record, tasks.record_late]


@contextmanager
def stopped_child(worker: Worker) -> Iterator[int]:
    """The worker's only child, which does nothing inside the block."""
    (child,) = worker.children()
    os.kill(child, signal.SIGSTOP)
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGCONT)


def wait_sent(rows: Rows, task_id: str) -> None:
    """Until the job is claimed; and, which nothing outside tells, written to the child's pipe."""
    rows.wait(task_id, "executing")
    time.sleep(0.1)


@pytest.mark.parametrize("task", TASKS)
def test_it_is_finished_by_a_worker_that_is_told_to_leave(
    task: Any, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=1)
    with stopped_child(started):
        result = task.delay(str(tmp_path / "lines"), 1)
        wait_sent(rows, result.id)
        started.send(signal.SIGTERM)
        wait_for(lambda: "Warm shutdown" in started.log)
        other = worker(pool="threads")
        # It stays with the worker that has sent it.
        assert task.delay(str(tmp_path / "lines"), 2).get(timeout=10) == 2
        assert rows.get(result.id)["attempted_by"] == started.name
    assert started.process.wait(timeout=15) == 0
    assert result.get(timeout=5) == 1
    assert_finished(rows.get(result.id))
    assert recorded(tmp_path / "lines") == {1: 1, 2: 1}
    assert set(rows.nodes().values()) == {other.name}


@pytest.mark.parametrize("task", TASKS)
def test_it_is_finished_when_the_connection_was_lost(
    task: Any, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=1)
    with stopped_child(started):
        result = task.delay(str(tmp_path / "lines"), 1)
        wait_sent(rows, result.id)
        lose_connections(rows, started)
        other = worker(pool="threads")
        assert task.delay(str(tmp_path / "lines"), 2).get(timeout=10) == 2
        assert rows.get(result.id)["attempted_by"] == started.name
    assert result.get(timeout=10) == 1
    assert_finished(rows.get(result.id))
    assert other.stop() == 0
    # The child is free for others again.
    assert task.delay(str(tmp_path / "lines"), 3).get(timeout=10) == 3
    assert recorded(tmp_path / "lines") == {1: 1, 2: 1, 3: 1}


def test_what_runs_while_the_connection_is_lost_twice_is_finished(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=2)
    result = tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    for _ in range(2):
        lose_connections(rows, started)
        # It goes to the child that is free.
        assert tasks.add.delay(1, 2).get(timeout=10) == 3
    (tmp_path / "release").touch()
    assert result.get(timeout=10) == "released"
    assert_finished(rows.get(result.id))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("fault", ["leave", "lose the connection"])
def test_it_goes_to_another_child_when_its_own_dies_before_it_begins(
    fault: str, task: Any, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=1)
    with stopped_child(started) as child:
        result = task.delay(str(tmp_path / "lines"), 1)
        wait_sent(rows, result.id)
        started.send(signal.SIGSTOP)
        os.kill(child, signal.SIGKILL)
        if fault == "leave":
            started.send(signal.SIGTERM)
        else:
            rows.select(TERMINATE)
        started.send(signal.SIGCONT)
        wait_for(lambda: is_gone(child))
    if fault == "leave":
        assert started.process.wait(timeout=15) == 0
        worker(pool="threads")
    row = rows.wait(result.id)
    assert_finished(row)
    assert errors(row) == []
    assert recorded(tmp_path / "lines") == {1: 1}


def lose_connections(rows: Rows, worker: Worker) -> None:
    """Cut all connections, and wait until the worker has noticed and consumes again."""
    count = worker.log.count("Connected to pgjobs://")
    rows.select(TERMINATE)
    wait_for(lambda: worker.log.count("Connected to pgjobs://") > count)


def is_gone(pid: int) -> bool:
    """No process of that id, or one that was waited for by nobody yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_what_is_ended_because_the_connection_was_lost_runs_again(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    conf = {"worker_cancel_long_running_tasks_on_connection_loss": True}
    started = worker(pool="prefork", concurrency=2, conf=conf)
    early = tasks.hold.delay(str(tmp_path / "early"), str(tmp_path / "release"))
    late = tasks.hold_late.delay(str(tmp_path / "late"), str(tmp_path / "release"))
    wait_for((tmp_path / "early").exists)
    wait_for((tmp_path / "late").exists)
    lose_connections(rows, started)
    wait_for(lambda: (tmp_path / "late").read_text().count("\n") == 2)
    (tmp_path / "release").touch()
    assert [early.get(timeout=10), late.get(timeout=10)] == ["released", "released"]
    assert_finished(rows.get(early.id))
    row = rows.get(late.id)
    assert_finished(row, attempt=2)
    assert errors(row) == [(1, "WorkerShutdown")]
