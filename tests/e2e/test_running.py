"""Tasks run: each once, in order, when they are due, and not after they have expired."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group
from celery.exceptions import TaskRevokedError

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows, assert_finished, errors

POOLS = ["prefork", "threads", "solo"]


def recorded(path: Path) -> list[Any]:
    """The values that ``tasks.record`` has written, in the order in which they ran."""
    return [json.loads(line)["value"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("pool", POOLS)
def test_two_workers_run_each_of_many_tasks_once(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    count = 1000
    lines = tmp_path / "lines"
    lines.touch()
    first = worker(pool=pool)
    worker(pool=pool)
    ids = [tasks.record.delay(str(lines), number).id for number in range(count)]
    rows.wait_count(completed=count, timeout=30)
    assert Counter(recorded(lines)) == Counter(range(count))
    found = rows.select(
        "SELECT task_id, attempt, claimed_by, errors, attempted_by,"
        " convert_from(result, 'UTF8') AS result FROM pgjobs.jobs ORDER BY id"
    )
    assert [row["task_id"] for row in found] == ids
    assert [int(row["result"]) for row in found] == list(range(count))
    assert {(row["attempt"], row["claimed_by"], len(row["errors"])) for row in found} == {
        (1, None, 0)
    }
    assert 0 < sum(row["attempted_by"] == first.name for row in found) < count


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_tasks_whose_results_are_ignored_run_once(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    count = 500
    lines = tmp_path / "lines"
    for number in range(count):
        tasks.ignored.delay(str(lines), str(number))
    worker(pool=pool)
    rows.wait_count(completed=count, timeout=20)
    assert Counter(lines.read_text().split()) == Counter(map(str, range(count)))
    assert rows.select("SELECT 1 FROM pgjobs.jobs WHERE result IS NOT NULL OR attempt <> 1") == []


def test_the_results_of_a_group_come_in_order(worker: StartWorker, app: Celery) -> None:
    worker(pool="threads")
    result = group(tasks.add.s(number, number) for number in range(200)).apply_async()
    assert result.get(timeout=20) == [2 * number for number in range(200)]


def test_a_worker_takes_from_the_queues_it_was_given(
    worker: StartWorker, app: Celery, rows: Rows
) -> None:
    worker(pool="solo", queues=["mail", "video"])
    other = tasks.add.delay(1, 1)
    results = [tasks.add.apply_async((1, 2), queue=queue) for queue in ("mail", "video")]
    assert [result.get(timeout=10) for result in results] == [3, 3]
    assert [rows.get(result.id)["queue"] for result in results] == ["mail", "video"]
    row = rows.get(other.id)
    assert (row["queue"], row["state"], row["attempt"]) == ("celery", "available", 0)


@pytest.mark.parametrize(
    ("order", "expected"), [("asc", [0, 0, 3, 5, 9]), ("desc", [9, 5, 3, 0, 0])]
)
def test_the_priority_says_what_runs_first(
    order: str, expected: list[int], worker: StartWorker, app: Celery, tmp_path: Path
) -> None:
    options = {"priority_order": order}
    lines = tmp_path / "lines"
    app.conf.broker_transport_options = options
    try:
        results = [
            tasks.record.apply_async((str(lines), number), priority=number)
            for number in (5, 0, 9, 3, 0)
        ]
    finally:
        app.conf.broker_transport_options = {}
    worker(pool="solo", conf={"broker_transport_options": options})
    assert [result.get(timeout=10) for result in results] == [5, 0, 9, 3, 0]
    assert recorded(lines) == expected


def test_tasks_of_one_queue_run_in_the_order_in_which_they_came(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    for number in range(300):
        tasks.record.delay(str(tmp_path / "lines"), number)
    worker(pool="solo")
    rows.wait_count(completed=300, timeout=20)
    assert recorded(tmp_path / "lines") == list(range(300))


def test_a_task_runs_when_it_is_due(worker: StartWorker, app: Celery, rows: Rows) -> None:
    worker(pool="threads")
    soon = datetime.now(timezone.utc) + timedelta(seconds=1.5)
    results = [tasks.add.apply_async((1, 2), countdown=1), tasks.add.apply_async((1, 2), eta=soon)]
    later = tasks.add.apply_async((1, 2), countdown=3600)
    for result in results:
        row = rows.get(result.id)
        assert (row["state"], row["attempt"]) == ("scheduled", 0)
        assert row["due_at"] == row["scheduled_at"]
        assert result.state == "PENDING"
    assert rows.get(results[1].id)["scheduled_at"] == soon
    for result in results:
        assert result.get(timeout=10) == 3
        row = rows.get(result.id)
        assert_finished(row)
        assert 0 <= (row["attempted_at"] - row["scheduled_at"]).total_seconds() < 2
    assert rows.get(later.id)["state"] == "scheduled"


def test_a_task_that_is_due_does_not_wait_behind_a_running_one(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    worker(pool="threads", concurrency=2)
    tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    result = tasks.add.apply_async((1, 2), countdown=0.5)
    assert result.get(timeout=10) == 3
    (tmp_path / "release").touch()


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_task_that_has_expired_does_not_run(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    past = datetime.now(timezone.utc) - timedelta(seconds=1)
    result = tasks.record.apply_async((str(lines), 1), expires=past)
    assert rows.get(result.id)["expires_at"] is not None
    fresh = tasks.record.apply_async((str(lines), 2), expires=60)
    worker(pool=pool)
    assert fresh.get(timeout=10) == 2
    row = rows.wait(result.id)
    assert_finished(row, "cancelled")
    assert errors(row) == [(1, "TaskRevokedError")]
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=1)
    assert recorded(lines) == [2]


def test_a_rate_limit_holds_tasks_back_and_loses_none(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    conf = {"task_annotations": {"tests.e2e.tasks.record": {"rate_limit": "10/s"}}}
    worker(pool="threads", conf=conf)
    began = time.monotonic()
    for number in range(15):
        tasks.record.delay(str(tmp_path / "lines"), number)
    unlimited = tasks.add.delay(1, 2)
    assert unlimited.get(timeout=10) == 3
    wait_for(lambda: rows.count() == {"completed": 16})
    assert sorted(recorded(tmp_path / "lines")) == list(range(15))
    assert time.monotonic() - began > 0.8


def test_threads_that_write_their_results_themselves_make_room_at_once(
    worker: StartWorker, app: Celery, rows: Rows
) -> None:
    """More jobs than are claimed at a time, and no loop that hears of their ends."""
    results = [tasks.big.delay(70_000, 0.05) for _ in range(60)]
    worker(pool="threads", concurrency=4)
    started = time.monotonic()
    assert [len(result.get(timeout=30)) for result in results] == [70_000] * 60
    rows.wait_count(completed=60)
    assert time.monotonic() - started < 10
