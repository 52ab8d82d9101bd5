"""Only the database's clock decides: that of a worker may be an hour off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Rows, assert_finished, errors

#: Where Debian puts what makes a process's clock go wrong.
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="needs libfaketime (Debian, Ubuntu: apt install faketime)"
)


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", params=["+3600", "-3600"], ids=["an hour ahead", "an hour behind"])
def wrong(request: pytest.FixtureRequest, module_worker: StartWorker) -> Iterator[Worker]:
    """A worker whose clock is an hour off."""
    wrong = module_worker(
        concurrency=2,
        queues=["celery"],
        env={
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME": request.param,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    yield wrong
    wrong.stop()


def test_its_clock_is_wrong(wrong: Worker, app: Celery) -> None:
    seconds = tasks.tell_time.delay().get(timeout=10)
    assert 3500 < abs(seconds - time.time()) < 3700


def test_what_is_scheduled_runs_at_its_time(wrong: Worker, app: Celery, rows: Rows) -> None:
    soon = tasks.add.apply_async((1, 2), countdown=1)
    later = tasks.add.apply_async((1, 2), countdown=600)
    assert soon.get(timeout=10) == 3
    row = rows.get(soon.id)
    assert_finished(row)
    assert 0 <= (row["attempted_at"] - row["scheduled_at"]).total_seconds() < 2
    row = rows.get(later.id)
    assert (row["state"], row["attempt"]) == ("scheduled", 0)


def test_a_retry_waits_for_its_countdown(wrong: Worker, app: Celery, rows: Rows) -> None:
    result = tasks.retry.delay(1, 1.5)
    row = rows.wait(result.id, "retryable")
    assert 0 < rows.seconds_from_now(row["due_at"]) <= 1.5
    assert result.get(timeout=10) == 1
    assert_finished(rows.get(result.id), attempt=2)


def test_a_task_expires_at_its_time(wrong: Worker, app: Celery, rows: Rows) -> None:
    queue = f"nobody-yet-{uuid4().hex[:6]}"
    late = tasks.add.apply_async((1, 2), expires=0.2, queue=queue)
    in_time = tasks.add.apply_async((1, 2), expires=60, queue=queue)
    expires_at = rows.get(late.id)["expires_at"]
    wait_for(lambda: rows.seconds_from_now(expires_at) < 0)
    app.control.add_consumer(queue, destination=[wrong.name], reply=True, timeout=10)
    assert in_time.get(timeout=10) == 3
    assert_finished(rows.wait(late.id), "cancelled")
    assert errors(rows.get(late.id)) == [(1, "TaskRevokedError")]


def test_nobody_is_taken_for_dead_and_nothing_is_pruned(
    wrong: Worker, module_worker: StartWorker, app: Celery, rows: Rows
) -> None:
    right = module_worker(pool="threads", queues=["other"])
    done = tasks.add.delay(1, 2)
    assert done.get(timeout=10) == 3
    beats = "SELECT name, heartbeat_at FROM pgjobs.nodes ORDER BY name"
    # A worker may be ready before its row is there.
    wait_for(lambda: {row["name"] for row in rows.select(beats)} == {right.name, wrong.name})
    first = rows.select(beats)
    wait_for(lambda: all(a != b for a, b in zip(rows.select(beats), first, strict=True)))
    assert all(abs(rows.seconds_from_now(row["heartbeat_at"])) < 10 for row in rows.select(beats))
    assert "is dead" not in right.log + wrong.log
    row = rows.get(done.id)
    assert -60 < rows.seconds_from_now(row["attempted_at"]) < 1
    assert -60 < rows.seconds_from_now(row["finished_at"]) < 1
    right.stop()
