"""Rates and limits that tasks declare, in real workers."""

from __future__ import annotations

import threading

import pytest
from celery import Celery, chain, chord, group

from benchmarks.sliding import most_within
from pgjobs_celery import bulk, rate

from . import pgtasks
from .conftest import StartWorker
from .rows import Rows


def starts(rows: Rows, lane: str) -> list[float]:
    """When the jobs of a lane began."""
    found = rows.select(
        "SELECT extract(epoch FROM attempted_at)::float8 AS at FROM pgjobs.jobs"
        f" WHERE lane = '{lane}' ORDER BY 1"
    )
    return [row["at"] for row in found]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_each_key_begins_as_often_as_its_rate_allows(
    worker: StartWorker, pgtask_app: Celery, rows: Rows, pool: str
) -> None:
    worker(app="tests.e2e.pgtasks", pool=pool, concurrency=2)
    with bulk():
        for _ in range(6):
            for tenant in "ab":
                pgtasks.paced.delay(tenant)
    rows.wait_count(completed=12, timeout=60)
    for tenant in "ab":
        times = starts(rows, f"rate/task/paced={tenant}")
        assert len(times) == 6
        assert most_within(times, 1.0) <= 3


def test_what_is_tried_again_keeps_its_lane(
    worker: StartWorker, pgtask_app: Celery, rows: Rows
) -> None:
    worker(app="tests.e2e.pgtasks", pool="threads", concurrency=2)
    result = pgtasks.again.apply_async(("a",), priority=3)
    assert result.get(timeout=60) == 3
    ((lane, priority),) = [
        (row["lane"], row["priority"]) for row in rows.select("SELECT * FROM pgjobs.jobs")
    ]
    assert (lane, priority) == ("running/task/again=a", 256 + 3)


def test_the_steps_of_a_canvas_pass_their_gates(
    worker: StartWorker, pgtask_app: Celery, rows: Rows
) -> None:
    worker(app="tests.e2e.pgtasks", pool="threads", concurrency=2)
    steps = chain(group(pgtasks.paced.si("a"), pgtasks.paced.si("b")), pgtasks.paced.si("c"))
    assert steps.apply_async().get(timeout=60) == "c"
    lanes = {row["lane"] for row in rows.select("SELECT lane FROM pgjobs.jobs")}
    assert lanes == {f"rate/task/paced={tenant}" for tenant in "abc"}


def test_what_a_worker_publishes_for_tasks_passes_their_gates(
    worker: StartWorker, pgtask_app: Celery, rows: Rows
) -> None:
    worker(app="tests.e2e.pgtasks", pool="threads", concurrency=2)
    results = [
        pgtasks.swapped.delay("replaced"),
        chord([pgtasks.add.s(1, 1), pgtasks.add.s(1, 2)], pgtasks.paced.si("body")).apply_async(),
    ]
    assert [result.get(timeout=60) for result in results] == ["replaced", "body"]
    pgtasks.add.apply_async((1, 2), link=pgtasks.paced.si("link"))
    pgtasks.add.apply_async((1, "x"), link_error=pgtasks.paced.si("errback"), max_attempts=1)
    rows.wait_count(completed=7, discarded=1)
    lanes = rows.select("SELECT lane FROM pgjobs.jobs WHERE task = 'paced' ORDER BY lane")
    assert [row["lane"] for row in lanes] == [
        f"rate/task/paced={each}" for each in ("body", "errback", "link", "replaced")
    ]


def test_code_outside_of_jobs_takes_of_the_same_tokens(
    worker: StartWorker, pgtask_app: Celery, rows: Rows
) -> None:
    worker(app="tests.e2e.pgtasks", pool="threads", concurrency=2)
    pgtasks.shared.delay().get(timeout=60)
    calls = rate(pgtask_app, "shared")

    def call() -> None:
        for _ in range(20):
            with calls:
                pass

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    with bulk():
        for _ in range(19):
            pgtasks.shared.delay()
    for thread in threads:
        thread.join()
    rows.wait_count(completed=20, timeout=60)
    (gate,) = rows.select("SELECT max(turn) AS turn FROM pgjobs.gates WHERE gate = 'rate/shared'")
    assert gate["turn"] >= 41  # each taking is a change of its own, those of one claim are one


def test_celerys_rate_limit_is_that_of_all_workers_by_a_setting(
    worker: StartWorker, pgtask_app: Celery, rows: Rows
) -> None:
    worker(app="tests.e2e.pgtasks", pool="threads", conf={"pgjobs_rate_limits": "global"})
    (flow,) = rows.select(
        "SELECT * FROM pgjobs.flows WHERE flow = %s", f"rate/task/{pgtasks.limited.name}"
    )
    assert (flow["amount"], flow["period"], flow["burst"]) == (1, 60, 1)
    assert (flow["algorithm"], flow["source"]) == ("bucket", "code")
