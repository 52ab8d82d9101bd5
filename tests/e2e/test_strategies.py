"""Tasks with a strategy of their own, as celery-batches has, and others who take jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import bulk

from ..conftest import Connection
from ..support.waiting import wait_for
from . import keepers
from .conftest import StartWorker, Worker, producing
from .rows import Rows, assert_finished
from .test_rescue import QUICK, is_steady

KEEPERS = "tests.e2e.keepers"


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    with producing(keepers.app, url) as app:
        yield app


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def states_of(rows: Rows, task: Any) -> dict[str, int]:
    found = rows.select(
        "SELECT state, count(*) AS n FROM pgjobs.jobs WHERE task = %s GROUP BY 1", task.name
    )
    return {row["state"]: row["n"] for row in found}


def publish(task: Any, folder: Path, numbers: range) -> list[Any]:
    """One transaction: a worker that looks sees all of them, or none."""
    with bulk():
        return [
            task.delay(str(folder / "batches"), str(folder / "release"), number)
            for number in numbers
        ]


def held(worker: Worker, app: Celery) -> int:
    stats = app.control.inspect([worker.name], timeout=10).stats()
    return int(stats[worker.name]["pgjobs"]["held"])


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_batch_is_as_large_as_the_prefetch_window_allows(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path, pool: str
) -> None:
    (tmp_path / "release").touch()
    started = worker(app=KEEPERS, pool=pool, concurrency=4, args=["--prefetch-multiplier", "10"])
    results = publish(keepers.batch, tmp_path, range(100))
    plain = keepers.plain.delay("plain")
    assert plain.get(timeout=20) == "plain"
    wait_for(lambda: len(lines(tmp_path / "batches")) == 5)
    assert lines(tmp_path / "batches") == ["20"] * 5
    for number, result in enumerate(results):
        wait_for(lambda each=result: rows.get(each.id)["result_type"])
        assert result.get(timeout=10) == 2 * number
    rows.wait_count(completed=101)
    wait_for(lambda: held(started, app) == 0)
    assert "no longer ours" not in started.log


def test_an_early_batch_is_completed_by_its_acknowledgement_and_may_store_results_later(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(app=KEEPERS, concurrency=2, args=["--prefetch-multiplier", "20"])
    first, *_, last = publish(keepers.batch, tmp_path, range(20))
    rows.wait_count(completed=20)
    assert not (tmp_path / "release").exists()
    assert rows.get(last.id)["result_type"] is None
    assert keepers.plain.delay(1).get(timeout=10) == 1
    (tmp_path / "release").touch()
    wait_for(lambda: rows.get(last.id)["result_type"])
    assert (first.get(timeout=10), last.get(timeout=10)) == (0, 38)
    # What has a result keeps it, whoever writes next.
    app.backend.mark_as_failure(last.id, ValueError("late"))
    assert last.get(timeout=10) == 38
    assert_finished(rows.get(last.id))
    assert "no longer ours" not in started.log


def test_a_late_batch_holds_its_jobs_until_it_has_run(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(app=KEEPERS, concurrency=2, args=["--prefetch-multiplier", "20"])
    results = publish(keepers.batch_late, tmp_path, range(20))
    wait_for(lambda: lines(tmp_path / "batches") == ["20"])
    assert states_of(rows, keepers.batch_late) == {"executing": 20}
    assert keepers.plain.delay(1).get(timeout=10) == 1
    (tmp_path / "release").touch()
    for result in results:
        assert_finished(rows.wait(result.id))
    assert held(started, app) == 0


def test_what_a_strategy_collects_does_not_keep_others_waiting_nor_have_them_claimed_ahead(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(app=KEEPERS, concurrency=2, args=["--prefetch-multiplier", "20"])
    publish(keepers.collect, tmp_path, range(30))
    wait_for(lambda: states_of(rows, keepers.collect) == {"executing": 30})
    with bulk():
        holding = [
            keepers.hold_watched.delay(str(tmp_path / "started"), str(tmp_path / "release"))
            for _ in range(8)
        ]
    wait_for(lambda: len(lines(tmp_path / "started")) == 2)
    assert states_of(rows, keepers.hold_watched) == {"executing": 2, "available": 6}
    (tmp_path / "release").touch()
    assert [result.get(timeout=20) for result in holding] == ["released"] * 8
    # It leaves: what it has collected has not begun, and is given back at no cost.
    started.stop()
    assert states_of(rows, keepers.collect) == {"available": 30}
    assert rows.select("SELECT DISTINCT attempt, redelivered FROM pgjobs.jobs WHERE attempt = 0")
    assert rows.nodes() == {}


def test_a_killed_worker_loses_nothing_that_its_strategy_has_collected(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    victim = worker(app=KEEPERS, concurrency=2, conf=QUICK)
    worker(app=KEEPERS, concurrency=1, queues=["other"], conf=QUICK)
    publish(keepers.collect, tmp_path, range(5))
    holding = keepers.hold_watched.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    wait_for(lambda: states_of(rows, keepers.collect) == {"executing": 5})
    # Its task was acknowledged when it began, as Celery does: that is in the row by now.
    wait_for(lambda: not rows.get(holding.id)["acks_late"])
    wait_for(lambda: is_steady(rows, 2), 15)
    victim.kill()
    assert_finished(rows.wait(holding.id, timeout=15), "discarded")
    wait_for(lambda: states_of(rows, keepers.collect) == {"available": 5})


def test_what_is_collected_stays_collected_when_the_connection_is_lost(
    worker: StartWorker, app: Celery, rows: Rows, connection: Connection, tmp_path: Path
) -> None:
    (tmp_path / "release").touch()
    started = worker(app=KEEPERS, concurrency=2, args=["--prefetch-multiplier", "20"])
    publish(keepers.batch, tmp_path, range(10))
    wait_for(lambda: states_of(rows, keepers.batch) == {"executing": 10})
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'pgjobs-celery' AND datname = current_database()"
    )
    results = publish(keepers.batch, tmp_path, range(10, 20))
    for number, result in enumerate(results, 10):
        wait_for(lambda each=result: rows.get(each.id)["result_type"], 20, lambda: started.log)
        assert result.get(timeout=10) == 2 * number
    assert lines(tmp_path / "batches") == ["20"]
    rows.wait_count(completed=20)
    assert rows.select("SELECT DISTINCT attempt FROM pgjobs.jobs") == [{"attempt": 1}]


DECISIONS = {
    "acknowledge": ("completed", None),
    "refuse": ("discarded", None),
    "put back once": ("completed", None),
    "acknowledge and run": ("completed", "ran"),
    "run later": ("completed", "ran"),
    "acknowledge and run later": ("completed", "ran"),
    "run here": ("completed", "ran"),
    "run in the pool by itself": ("completed", "ran"),
}


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_whatever_a_strategy_decides_the_claim_ends_and_the_row_says_so(
    worker: StartWorker, app: Celery, rows: Rows, pool: str
) -> None:
    started = worker(app=KEEPERS, pool=pool, concurrency=1)
    for task in (keepers.decide, keepers.decide_late):
        for what, (state, result) in DECISIONS.items():
            published = task.delay(what)
            row = rows.wait(published.id)
            assert row["state"] == state, (task.name, what, row["errors"])
            assert row["attempt"] == (2 if what == "put back once" else 1)
            if result:
                wait_for(lambda each=published: rows.get(each.id)["result_type"], message=what)
                assert published.get(timeout=10) == f"{what}: {result}"
    early = keepers.acknowledged_on_arrival.delay("early")
    assert early.get(timeout=10) == "early"
    assert_finished(rows.wait(early.id))
    # One place in the pool, and it is free.
    assert keepers.plain.delay(1).get(timeout=10) == 1
    assert held(started, app) == 0
    assert "no longer ours" not in started.log
    assert "Traceback" not in started.log


def test_a_consumer_of_the_applications_own_takes_jobs_though_the_pool_is_busy(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(app=KEEPERS, concurrency=1)
    busy = keepers.hold_watched.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    taken = tmp_path / "taken"

    def put(count: int) -> None:
        with bulk():
            for number in range(count):
                app.send_task("not.celerys", (str(taken), number), queue="intake")

    put(20)
    wait_for(lambda: len(lines(taken)) == 20)
    rows.wait_count(completed=20, executing=1)
    # What it has and does not acknowledge stays with it, takes no place in the pool, and comes
    # back: it is acknowledged when it has been dealt with, whatever holds for Celery's tasks.
    (tmp_path / "taken.keep").touch()
    put(5)
    wait_for(lambda: len(lines(taken)) == 25)
    late = (
        "SELECT DISTINCT acks_late FROM pgjobs.jobs WHERE queue = 'intake' AND state = 'executing'"
    )
    assert rows.select(late) == [{"acks_late": True}]
    (tmp_path / "release").touch()
    assert busy.get(timeout=10) == "released"
    assert keepers.plain.delay(1).get(timeout=10) == 1
    started.stop()
    rows.wait_count(completed=22, available=5)
