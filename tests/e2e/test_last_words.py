"""A pool's child says by its pipe that it leaves, and its main process waits until it has left.

A pipe holds no more than its capacity: unless the main process reads, the child cannot leave.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery

from ..support.waiting import wait_for
from . import talkers, tasks
from .conftest import StartWorker, Worker
from .rows import Rows, assert_finished
from .test_stalls import stopped

#: More than any pipe holds here.
MUCH = {"PGJOBS_TEST_TALK": "40"}
SOFT = {"worker_soft_shutdown_timeout": 1.0}


def leave(started: Worker, way: str) -> None:
    """Tell it to leave."""
    if way == "warm":
        started.send(signal.SIGTERM)
    elif way == "twice":
        started.send(signal.SIGINT)
        wait_for(lambda: "Hitting Ctrl+C again" in started.log)
        started.send(signal.SIGINT)
    else:
        started.send(signal.SIGQUIT)


@pytest.mark.parametrize("limit", [None, 1], ids=["", "one task each"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("way", ["warm", "twice", "cold", "soft"])
def test_a_child_with_much_to_say_does_not_keep_its_worker_from_leaving(
    way: str,
    busy: bool,
    limit: int | None,
    worker: StartWorker,
    app: Celery,
    rows: Rows,
    tmp_path: Path,
) -> None:
    conf: dict[str, Any] = {"worker_max_tasks_per_child": limit}
    conf |= SOFT if way == "soft" else {}
    env = {**MUCH, "PGJOBS_TEST_FOLDER": str(tmp_path)}
    started = worker(app="tests.e2e.talkers", conf=conf, env=env)
    if busy:
        running = tasks.hold_late.delay(str(tmp_path / "started"), str(tmp_path / "release"))
        wait_for((tmp_path / "started").exists)
    leave(started, way)
    # The pool is closed, or its children would not leave.
    wait_for((tmp_path / "leaving").exists)
    (tmp_path / "release").touch()
    wait_for(lambda: len((tmp_path / "leaving").read_text().split()) == 2)
    (tmp_path / "go").touch()
    started.process.wait(timeout=20)
    if busy and way == "warm":
        assert_finished(rows.get(running.id))
    elif busy:
        assert rows.get(running.id)["state"] in ("available", "completed")
    assert rows.nodes() == {}


def test_a_long_status_of_a_task_that_leaves_its_process_does_not_fill_the_pipe(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    """Half of it would stand there if the child were killed, and ruin what the next one says."""
    env = {"PGJOBS_TEST_FOLDER": str(tmp_path)}
    started = worker(app="tests.e2e.talkers", concurrency=1, env=env)
    result = talkers.leave.delay(200_000)
    assert rows.wait(result.id)["state"] == "discarded"
    wait_for((tmp_path / "leaving").exists)
    (child,) = started.children()
    with stopped(started):
        (tmp_path / "go").touch()
        wait_for(lambda: psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
    assert started.stop() == 0
    assert "exited with 'exitcode 1'" in started.log
