"""What waits for its time waits in its row, and ``inspect`` finds it there."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from celery import Celery
from celery.events.state import State
from celery.utils.objects import Bunch
from celery.worker.consumer.gossip import Gossip

from pgjobs_celery import bulk
from pgjobs_celery.db.rows.waiting import LIMIT

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_inspect_finds_what_waits_in_the_queues_of_the_worker(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path, pool: str
) -> None:
    running = worker(pool=pool, concurrency=1, queues=["celery", "more"])
    eta = datetime.now(timezone.utc) + timedelta(hours=1)
    later = tasks.echo.apply_async((2,), {"z": 3}, eta=eta + timedelta(minutes=1), queue="more")
    first = tasks.echo.apply_async((1, "two"), {"z": [3]}, eta=eta, priority=4)
    other = tasks.echo.apply_async((1,), eta=eta, queue="others")
    retrying = tasks.retry.delay(3, 3600)
    rows.wait(retrying.id, "retryable")
    inspect = app.control.inspect([running.name], timeout=10)
    listed = inspect.scheduled()[running.name]
    assert [entry["request"]["id"] for entry in listed] == [first.id, retrying.id, later.id]
    assert listed[0] == {
        "eta": eta.isoformat(),
        "priority": 6,
        "request": {
            "id": first.id,
            "name": tasks.echo.name,
            "args": [1, "two"],
            "kwargs": {"z": [3]},
            "type": tasks.echo.name,
            "hostname": running.name,
            "time_start": None,
            "acknowledged": False,
            "delivery_info": {
                "exchange": "", "routing_key": "celery", "priority": 4, "redelivered": False,
            },
            "worker_pid": None,
        },
    }  # fmt: skip
    found = inspect.query_task(first.id, retrying.id, other.id, "unknown")[running.name]
    assert found == {
        first.id: ["scheduled", listed[0]["request"]],
        retrying.id: ["scheduled", listed[1]["request"]],
    }
    first.revoke()
    wait_for(lambda: first.id not in (inspect.query_task(first.id) or {})[running.name])


def test_inspect_scheduled_is_bounded_and_survives_bad_rows(
    worker: StartWorker, app: Celery, rows: Rows, url: str, connection: psycopg.Connection
) -> None:
    running = worker(pool="threads", concurrency=1)
    with bulk():
        for number in range(LIMIT + 20):
            tasks.echo.apply_async((number,), countdown=3600 + number)
    long = tasks.echo.apply_async(("x" * 70_000,), countdown=60)
    bad = tasks.echo.apply_async((1,), countdown=61)
    connection.execute("UPDATE pgjobs.jobs SET message = '{' WHERE task_id = %s", (bad.id,))
    unreadable = tasks.echo.apply_async((1,), countdown=62, serializer="pickle")
    inspect = app.control.inspect([running.name], timeout=10)
    listed = inspect.scheduled()[running.name]
    assert len(listed) == LIMIT - 1
    assert [entry["request"]["id"] for entry in listed[:2]] == [long.id, unreadable.id]
    # Neither decoded: what their publisher wrote of them.
    assert listed[0]["request"]["args"].startswith("('xxx")
    assert listed[1]["request"]["args"] == "(1,)"


def test_a_gossip_without_a_worker_hears_of_workers(worker: StartWorker, app: Celery) -> None:
    consumer = Bunch(app=app, hostname="nobody@test", pid=1, timer=None, hub=None)
    gossip = Gossip(consumer)
    assert gossip.enabled
    assert isinstance(gossip.state, State)
