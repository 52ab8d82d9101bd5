"""Workers answer questions and obey orders, busy or not, and leave nothing behind."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError

from pgjobs_celery import bulk

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Rows, assert_finished, errors

POOLS = ["prefork", "threads", "solo"]


def reply_of(worker: Worker, replies: Any) -> Any:
    """What this worker answered, and only this worker."""
    assert list(replies or {}) == [worker.name]
    return replies[worker.name]


def leftovers(rows: Rows) -> list[Any]:
    """Reply queues and messages that nobody will fetch any more."""
    return [
        *rows.select("SELECT name FROM pgjobs.queues WHERE name LIKE '%%reply%%'"),
        *rows.select("SELECT queue FROM pgjobs.bindings WHERE queue LIKE '%%reply%%'"),
        *rows.select("SELECT queue FROM pgjobs.messages WHERE queue LIKE '%%reply%%'"),
    ]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_says_what_it_does(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool=pool, concurrency=1)
    running = tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    waiting = tasks.add.delay(1, 2)
    assert reply_of(started, app.control.inspect(timeout=10, limit=1).ping()) == {"ok": "pong"}
    # With the number of answers known, nobody waits for more.
    inspect = app.control.inspect([started.name], timeout=10)
    (active,) = reply_of(started, inspect.active())
    assert (active["id"], active["name"]) == (running.id, "tests.e2e.tasks.hold")
    # A worker does not sit on what its pool cannot begin.
    assert reply_of(started, inspect.reserved()) == []
    assert rows.get(waiting.id)["state"] == "available"
    assert "tests.e2e.tasks.add" in reply_of(started, inspect.registered())
    assert [each["name"] for each in reply_of(started, inspect.active_queues())] == ["celery"]
    stats = reply_of(started, inspect.stats())
    assert stats["broker"]["transport"] == "pgjobs"
    assert stats["total"] == {"tests.e2e.tasks.hold": 1}
    (tmp_path / "release").touch()
    assert waiting.get(timeout=10) == 3

    wait_for(lambda: not leftovers(rows), message=lambda: leftovers(rows))


def test_a_solo_worker_answers_while_it_drains(
    worker: StartWorker, app: Celery, rows: Rows
) -> None:
    with bulk():
        for _ in range(3000):
            tasks.ignored.delay("/dev/null")
    started = worker(pool="solo")
    inspect = app.control.inspect([started.name], timeout=10)
    assert reply_of(started, inspect.ping()) == {"ok": "pong"}
    assert reply_of(started, inspect.stats())["pool"]
    assert rows.count().get("available", 0) > 0, "it drained too fast to tell"
    app.control.broadcast("rate_limit", arguments={"task_name": "x", "rate_limit": "1/s"})
    rows.wait_count(completed=3000, timeout=60)


@pytest.mark.parametrize("pool", POOLS)
def test_a_waiting_task_that_is_revoked_never_runs(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool=pool)
    result = tasks.record.apply_async((str(tmp_path / "lines"), 1), countdown=5)
    kept = tasks.record.apply_async((str(tmp_path / "kept"), 1), countdown=0.5)
    (reply,) = app.control.revoke(result.id, [started.name], reply=True, timeout=10)
    assert "ok" in reply[started.name]
    row = rows.wait(result.id)
    rows.wait(kept.id)
    assert_finished(row, "cancelled", row["attempt"])
    assert result.state == "REVOKED"
    assert not (tmp_path / "lines").exists()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=1)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_is_revoked_while_the_pool_is_busy_never_runs(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool=pool, concurrency=1)
    tasks.hold_late.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    result = tasks.record.delay(str(tmp_path / "lines"), 1)
    app.control.revoke(result.id, [started.name], reply=True, timeout=10)
    behind = tasks.add.delay(1, 2)
    (tmp_path / "release").touch()
    assert behind.get(timeout=10) == 3
    assert rows.wait(result.id)["state"] == "cancelled"
    assert result.state == "REVOKED"
    assert not (tmp_path / "lines").exists()
    assert "no longer ours" not in started.log


@pytest.mark.parametrize(
    ("task", "signal"), [(tasks.hold, "SIGTERM"), (tasks.hold_late, "SIGKILL")]
)
def test_a_running_task_that_is_terminated_is_cancelled(
    task: Any, signal: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    worker(pool="prefork", concurrency=2)
    result = task.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    app.control.revoke(result.id, terminate=True, signal=signal)
    row = rows.wait(result.id)
    assert_finished(row, "cancelled")
    assert errors(row) == [(1, "TaskRevokedError")]
    assert result.state == "REVOKED"
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
    assert (tmp_path / "started").read_text().count("\n") == 1


def test_a_worker_shuts_down_when_told(worker: StartWorker, app: Celery, rows: Rows) -> None:
    first, second = worker(pool="threads"), worker(pool="solo")
    app.control.shutdown(destination=[first.name])
    assert first.process.wait(timeout=10) == 0
    assert list(rows.nodes().values()) == [second.name]
    assert tasks.add.delay(1, 2).get(timeout=10) == 3


def test_queues_are_added_and_cancelled_while_a_worker_runs(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=1, queues=["celery"])
    result = tasks.add.apply_async((1, 2), queue="more")
    (reply,) = app.control.add_consumer("more", destination=[started.name], reply=True, timeout=10)
    assert "ok" in reply[started.name]
    assert result.get(timeout=10) == 3
    # What was prefetched from a queue that is taken away goes to others.
    tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    (reply,) = app.control.cancel_consumer(
        "more", destination=[started.name], reply=True, timeout=10
    )
    assert "ok" in reply[started.name]
    (tmp_path / "release").touch()
    late = tasks.add.apply_async((2, 2), queue="more")
    assert tasks.add.delay(3, 3).get(timeout=10) == 6
    row = rows.get(late.id)
    assert (row["state"], row["attempt"]) == ("available", 0)


def test_a_pool_grows_and_more_is_claimed(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=1, args=["--prefetch-multiplier", "1"])
    release = str(tmp_path / "release")
    results = [tasks.hold.delay(str(tmp_path / "started"), release) for _ in range(4)]
    wait_for((tmp_path / "started").exists)
    assert rows.count() == {"executing": 1, "available": 3}
    (reply,) = app.control.pool_grow(1, [started.name], reply=True, timeout=10)
    assert "ok" in reply[started.name]
    wait_for(lambda: rows.count() == {"executing": 2, "available": 2})
    (tmp_path / "release").touch()
    assert [result.get(timeout=10) for result in results] == 4 * ["released"]
    rows.wait_count(completed=4)


def test_events_tell_what_happens_to_a_task(worker: StartWorker, app: Celery, url: str) -> None:
    worker(pool="threads", args=["--task-events"], conf={"task_send_sent_event": True})
    assert tasks.add.delay(0, 0).get(timeout=10) == 0  # the worker knows that nobody listens
    seen: list[dict[str, Any]] = []
    done = threading.Event()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        consumer = receiver.itercapture(limit=None, timeout=10, wakeup=True)
        next(consumer, None)
        good, bad = tasks.add.delay(1, 2), tasks.fail.delay()

        def types(task_id: str) -> list[str]:
            return [event["type"] for event in seen if event.get("uuid") == task_id]

        for _ in consumer:
            if "task-succeeded" in types(good.id) and "task-failed" in types(bad.id):
                done.set()
                break
    assert done.is_set()
    assert types(good.id)[-3:] == ["task-received", "task-started", "task-succeeded"]
    assert types(bad.id)[-3:] == ["task-received", "task-started", "task-failed"]
    json.dumps(seen)
