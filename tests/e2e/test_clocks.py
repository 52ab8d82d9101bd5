"""Only the database's clock decides: that of a worker may be an hour off."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from ..waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Rows, assert_finished, errors

#: Where Debian puts what makes a process's clock go wrong.
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="needs libfaketime (Debian, Ubuntu: apt install faketime)"
)

StartWrong = Callable[..., Worker]


@pytest.fixture(params=["+3600", "-3600"], ids=["an hour ahead", "an hour behind"])
def start_wrong(request: pytest.FixtureRequest, worker: StartWorker) -> StartWrong:
    """A factory of workers whose clock is an hour off."""

    def start(pool: str = "prefork") -> Worker:
        env = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME": request.param,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return worker(pool=pool, env=env, args=["--without-mingle", "--without-gossip"])

    return start


def test_the_clock_is_wrong(start_wrong: StartWrong, app: Celery, tmp_path: Path) -> None:
    start_wrong()
    seconds = tasks.tell_time.delay().get(timeout=10)
    assert 3500 < abs(seconds - time.time()) < 3700


def test_what_is_scheduled_runs_at_its_time(
    start_wrong: StartWrong, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    start_wrong()
    soon = tasks.add.apply_async((1, 2), countdown=1.5)
    later = tasks.add.apply_async((1, 2), countdown=600)
    assert soon.get(timeout=10) == 3
    row = rows.get(soon.id)
    assert_finished(row)
    assert 0 <= (row["attempted_at"] - row["scheduled_at"]).total_seconds() < 1
    row = rows.get(later.id)
    assert (row["state"], row["attempt"]) == ("scheduled", 0)


def test_a_retry_waits_for_its_countdown(start_wrong: StartWrong, app: Celery, rows: Rows) -> None:
    start_wrong()
    result = tasks.retry.delay(1, 1.5)
    row = rows.wait(result.id, "retryable")
    assert 0 < rows.seconds_from_now(row["due_at"]) <= 1.5
    assert result.get(timeout=10) == 1
    assert_finished(rows.get(result.id), attempt=2)


def test_a_task_expires_at_its_time(start_wrong: StartWrong, app: Celery, rows: Rows) -> None:
    late = tasks.add.apply_async((1, 2), expires=0.5)
    in_time = tasks.add.apply_async((1, 2), expires=60)
    (too_late,) = rows.select("SELECT expires_at FROM pgjobs.jobs WHERE task_id = %s", late.id)
    wait_for(lambda: rows.seconds_from_now(too_late["expires_at"]) < 0)
    start_wrong()
    assert in_time.get(timeout=10) == 3
    assert_finished(rows.wait(late.id), "cancelled")
    assert errors(rows.get(late.id)) == [(1, "TaskRevokedError")]


def test_nobody_is_taken_for_dead_and_nothing_is_pruned(
    start_wrong: StartWrong, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    right = worker(pool="threads", concurrency=1)
    running = tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    done = tasks.add.delay(1, 2)
    wrong = start_wrong("threads")
    assert done.get(timeout=10) == 3
    beats = "SELECT name, heartbeat_at FROM pgjobs.nodes ORDER BY name"
    first = rows.select(beats)
    wait_for(lambda: all(a != b for a, b in zip(rows.select(beats), first, strict=True)))
    assert all(abs(rows.seconds_from_now(row["heartbeat_at"])) < 10 for row in rows.select(beats))
    assert set(rows.nodes().values()) == {right.name, wrong.name}
    (tmp_path / "release").touch()
    assert running.get(timeout=10) == "released"
    assert rows.count() == {"completed": 2}
    assert "dead" not in right.log + wrong.log
    for row in rows.select("SELECT attempted_at, finished_at FROM pgjobs.jobs"):
        assert -60 < rows.seconds_from_now(row["attempted_at"]) < 1
        assert -60 < rows.seconds_from_now(row["finished_at"]) < 1
