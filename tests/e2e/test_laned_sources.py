"""Jobs of beat, of `replace()` and of a bare kombu producer pass their gates as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery

from benchmarks.sliding import most_within
from pgjobs_celery import bulk, queues
from pgjobs_celery.job.flow import lane_text

from ..support.waiting import wait_for
from . import pgtasks, tasks
from .beats import running_beats
from .conftest import ROOT, StartWorker
from .rows import Rows
from .test_lanes import watching_lanes
from .test_limited_tasks import starts
from .test_limits import most_at_once, spans

#: As any program that has kombu and knows neither the tasks nor an app: 60 messages of one tenant,
#: and then one each of five others, by position.
PRODUCER = """
import sys
from uuid import uuid4
import kombu
import pgjobs_celery  # which tells kombu of the transport
with kombu.Connection(sys.argv[1]) as connection:
    producer = connection.Producer()
    for tenant in [1] * 60 + [2, 3, 4, 5, 6]:
        producer.publish(
            ([tenant, 0], {}, {}), routing_key="mail", serializer="json",
            headers={"task": sys.argv[2], "id": str(uuid4()), "lang": "py"},
        )
"""


def test_entries_of_a_beat_that_come_faster_than_their_rate(
    worker: StartWorker, pgtask_app: Celery, rows: Rows, url: str, tmp_path: Path
) -> None:
    """The beat does not have the task: it knows what the worker has registered."""
    worker(app="tests.e2e.pgtasks", pool="threads", concurrency=4)
    schedule = {
        tenant: {"task": "paced", "schedule": 0.05, "kwargs": {"tenant": tenant}} for tenant in "ab"
    }
    with running_beats(url, tmp_path) as beat:
        beat(schedule)
        wait_for(lambda: rows.count().get("completed", 0) >= 16, 60)
    for tenant in "ab":
        times = starts(rows, f"rate/task/paced={tenant}")
        assert len([at for at in times if at is not None]) >= 5
        assert most_within([at for at in times if at is not None], 1.0) <= 3
    assert {row["lane"] for row in rows.select("SELECT lane FROM pgjobs.jobs")} == {
        "rate/task/paced=a", "rate/task/paced=b",
    }  # fmt: skip


@pytest.mark.parametrize("pool", ["threads", "prefork"])
@pytest.mark.parametrize("how", ["task", "chain", "chord"])
def test_a_task_that_is_replaced_within_its_own_limit_hands_on_its_place(
    worker: StartWorker, pgtask_app: Celery, rows: Rows, url: str, tmp_path: Path,
    pool: str, how: str,
) -> None:  # fmt: skip
    """Both count for the same limit of the same key: the one waits for the end of the other."""
    for _ in range(2):
        worker(app="tests.e2e.pgtasks", pool=pool, concurrency=2)
    paths = [tmp_path / tenant for tenant in "ab"]
    with watching_lanes(url) as most:
        with bulk():
            results = [pgtasks.exporting.delay(str(path), how) for path in paths * 3]
        assert [result.get(timeout=60) for result in results] == [str(path) for path in paths * 3]
    limited = {lane: count for lane, count in most.items() if lane is not None}
    assert set(limited) == {f"running/exports={path}" for path in paths}
    assert set(limited.values()) == {1}
    for path in paths:
        assert most_at_once(spans(path)) == 1


def test_what_replaces_a_task_runs_in_a_queue_that_runs_one_at_a_time(
    worker: StartWorker, pgtask_app: Celery, rows: Rows, tmp_path: Path
) -> None:
    queues(pgtask_app).limit("one", 1)
    worker(app="tests.e2e.pgtasks", pool="threads", concurrency=2, queues=["one"])
    path = str(tmp_path / "a")
    result = pgtasks.exporting.apply_async((path, "chord"), queue="one")
    assert result.get(timeout=60) == path
    assert len(spans(tmp_path / "a")) == 3


def test_a_task_is_replaced_by_one_in_a_fair_queue(
    worker: StartWorker, pgtask_app: Celery, rows: Rows
) -> None:
    queues(pgtask_app)["fair"].fair("tenant")
    worker(app="tests.e2e.pgtasks", pool="threads", concurrency=2, queues=["celery", "fair"])
    assert pgtasks.swapped.delay("7", "fair").get(timeout=60) == "7"
    rows.wait_count(completed=1)
    (lane,) = [
        row["lane"] for row in rows.select("SELECT lane FROM pgjobs.jobs WHERE task = 'paced'")
    ]
    assert lane == lane_text(["rate/task/paced=7"], "7")


def test_messages_of_a_bare_kombu_producer_take_turns(
    worker: StartWorker, app: Celery, rows: Rows, url: str
) -> None:
    queues(app)["mail"].fair("args.0")
    queues(app)["mail"].concurrency(1)
    subprocess.run(
        [sys.executable, "-c", PRODUCER, url, tasks.add.name], cwd=ROOT, check=True, timeout=60
    )
    assert {row["lane"] for row in rows.select("SELECT lane FROM pgjobs.jobs")} == {
        f"share={tenant}" for tenant in range(1, 7)
    }
    worker(pool="threads", concurrency=1, queues=["mail"])
    rows.wait_count(completed=65, timeout=60)
    order = rows.select(
        "SELECT (pgjobs.args(j) ->> 0)::int AS tenant FROM pgjobs.jobs AS j"
        " ORDER BY j.attempted_at, j.id"
    )
    last = max(index for index, row in enumerate(order) if row["tenant"] > 1)
    # Each of the five begins within the first turn, and the other tenant has one as well.
    assert last < 6, [row["tenant"] for row in order]
