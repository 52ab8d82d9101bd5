"""A worker that leaves takes nothing along: what it has not begun is there for the next."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows, assert_finished, errors

POOLS = ["prefork", "threads", "solo"]


@pytest.mark.parametrize("task", [tasks.hold, tasks.hold_late])
@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_finishes_what_runs_and_releases_the_rest(
    pool: str, task: Any, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool=pool, concurrency=1)
    running = task.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    waiting = [tasks.record.delay(str(tmp_path / "lines"), number) for number in range(10)]
    started.send(signal.SIGTERM)
    if pool == "solo":
        (tmp_path / "release").touch()
    else:
        # At once, and not only when the last task has ended.
        rows.wait_count(executing=1, available=10)
        (tmp_path / "release").touch()
    assert started.process.wait(timeout=15) == 0
    assert running.get(timeout=5) == "released"
    assert_finished(rows.get(running.id))
    assert rows.count() == {"completed": 1, "available": 10}
    assert {rows.get(result.id)["attempt"] for result in waiting} == {0}
    assert rows.nodes() == {}
    worker(pool="threads")
    assert [result.get(timeout=10) for result in waiting] == list(range(10))
    assert {rows.get(result.id)["attempt"] for result in waiting} == {1}


@pytest.mark.parametrize("task", [tasks.hold, tasks.hold_late])
def test_a_cold_shutdown_ends_what_runs_and_releases_the_rest(
    task: Any, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=1)
    running = task.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    waiting = [tasks.add.delay(number, 1) for number in range(10)]
    started.send(signal.SIGQUIT)
    started.process.wait(timeout=15)
    assert {rows.get(result.id)["attempt"] for result in waiting} == {0}
    assert {rows.get(result.id)["state"] for result in waiting} == {"available"}
    assert rows.nodes() == {}
    (tmp_path / "release").touch()
    row = rows.get(running.id)
    if task is tasks.hold_late:
        # kombu's line, that operators look for.
        assert "Restoring 1 unacknowledged message(s)" in started.log
        assert (row["state"], row["attempt"]) == ("available", 1)
        assert errors(row) == [(1, "WorkerShutdown")]
    else:
        # It was acknowledged, and has begun: it may not run again.
        assert_finished(row, "discarded")
        assert errors(row) == [(1, "WorkerLostError")]
        with pytest.raises(WorkerLostError, match="had to leave at once"):
            running.get(timeout=5)
    worker(pool="threads")
    assert [result.get(timeout=10) for result in waiting] == list(range(1, 11))
    assert {rows.get(result.id)["attempt"] for result in waiting} == {1}
    if task is tasks.hold_late:
        assert running.get(timeout=5) == "released"
        assert_finished(rows.get(running.id), attempt=2)


@pytest.mark.parametrize("task", [tasks.hold, tasks.hold_late])
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_cold_shutdown_waits_for_what_runs_in_its_own_process(
    pool: str, task: Any, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool=pool, concurrency=1)
    running = task.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    waiting = [tasks.add.delay(number, 1) for number in range(10)]
    started.send(signal.SIGQUIT)
    # A thread cannot be ended from outside.
    wait_for(lambda: "Hitting Ctrl+C again" in started.log)
    (tmp_path / "release").touch()
    started.process.wait(timeout=15)
    assert rows.nodes() == {}
    assert rows.count().get("executing", 0) == 0
    worker(pool="threads")
    assert [result.get(timeout=10) for result in waiting] == list(range(1, 11))
    assert {rows.get(result.id)["attempt"] for result in waiting} == {1}
    assert_finished(rows.wait(running.id))


@pytest.mark.parametrize(
    ("pool", "task"),
    [("prefork", tasks.hold_late), ("threads", tasks.hold)],
)
def test_a_soft_shutdown_releases_at_once_and_finishes_what_it_can(
    pool: str, task: Any, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool=pool, concurrency=1, conf={"worker_soft_shutdown_timeout": 5})
    other = worker(pool="threads", queues=["other"])
    running = task.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    waiting = [tasks.add.delay(number, 1) for number in range(10)]
    started.send(signal.SIGQUIT)
    wait_for(lambda: "Initiating Soft Shutdown" in started.log)
    # Others need not wait for what it waits for.
    app.control.add_consumer("celery", destination=[other.name], reply=True, timeout=10)
    assert [result.get(timeout=10) for result in waiting] == list(range(1, 11))
    assert started.process.poll() is None
    (tmp_path / "release").touch()
    started.process.wait(timeout=20)
    assert running.get(timeout=5) == "released"
    assert_finished(rows.get(running.id))
    assert set(rows.nodes().values()) == {other.name}


def test_a_soft_shutdown_ends_what_takes_longer(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=2, conf={"worker_soft_shutdown_timeout": 1})
    early = tasks.hold.delay(str(tmp_path / "early"), str(tmp_path / "release"))
    late = tasks.hold_late.delay(str(tmp_path / "late"), str(tmp_path / "release"))
    wait_for((tmp_path / "early").exists)
    wait_for((tmp_path / "late").exists)
    started.send(signal.SIGQUIT)
    started.process.wait(timeout=15)
    assert rows.nodes() == {}
    assert_finished(rows.get(early.id), "discarded")
    row = rows.get(late.id)
    assert (row["state"], row["attempt"]) == ("available", 1)
    (tmp_path / "release").touch()
    worker(pool="threads")
    assert late.get(timeout=10) == "released"


def test_a_second_signal_ends_the_wait(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=1)
    result = tasks.hold_late.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    started.send(signal.SIGTERM)
    wait_for(lambda: "Warm shutdown" in started.log)
    started.send(signal.SIGQUIT)
    started.process.wait(timeout=15)
    row = rows.get(result.id)
    assert row["state"] != "executing", row
    (tmp_path / "release").touch()
    worker(pool="threads")
    assert result.get(timeout=10) == "released"


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_an_outcome_is_written_while_a_long_task_runs(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    quick = [
        tasks.ignored.delay(str(tmp_path / "lines")),
        tasks.add.delay(1, 2),
        tasks.fail.apply_async(ignore_result=True),
    ]
    long = tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    worker(pool=pool, concurrency=2)
    wait_for((tmp_path / "started").exists)
    for result in quick:
        rows.wait(result.id)
    assert rows.get(long.id)["state"] == "executing"
    # The worker is not taken for dead, either.
    (beat,) = rows.select("SELECT heartbeat_at FROM pgjobs.nodes")
    wait_for(lambda: rows.select("SELECT heartbeat_at FROM pgjobs.nodes") != [beat])
    (tmp_path / "release").touch()
    assert long.get(timeout=5) == "released"


def test_a_killed_worker_corrupts_nothing(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=1)
    running = tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    wait_for(lambda: started.name in rows.nodes().values())
    (node,) = rows.nodes()
    more = [tasks.record.delay(str(tmp_path / "lines"), number) for number in range(20)]
    started.kill()
    held = rows.select("SELECT task_id, claimed_by FROM pgjobs.jobs WHERE state = 'executing'")
    assert {row["claimed_by"] for row in held} == {node}
    row = rows.get(running.id)
    assert (row["state"], row["attempt"], row["attempted_by"]) == ("executing", 1, started.name)
    worker(pool="threads")
    waiting = [result for result in more if result.id not in {row["task_id"] for row in held}]
    assert len(waiting) > 0
    for result in waiting:
        assert isinstance(result.get(timeout=10), int)
    # Sooner or later somebody finds that the node is dead; until then its jobs stay its own.
    for result in more:
        assert errors(rows.get(result.id)) == []


def test_a_worker_that_is_idle_leaves_quickly(worker: StartWorker, rows: Rows) -> None:
    started = worker(pool="threads")
    began = time.monotonic()
    assert started.stop() == 0
    assert time.monotonic() - began < 5
    assert rows.nodes() == {}


def test_a_child_that_dies_while_it_writes_does_not_keep_its_worker_from_leaving(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    """Celery would read on for ever, and what the worker holds would seem to run."""
    started = worker(pool="prefork", concurrency=2)
    result = tasks.die_writing.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    started.send(signal.SIGTERM)
    wait_for(lambda: "Warm shutdown" in started.log)
    (tmp_path / "release").touch()
    started.process.wait(timeout=15)
    row = rows.get(result.id)
    assert (row["state"], row["attempt"]) == ("available", 1)
    assert rows.nodes() == {}
