"""A worker that holds jobs of which its pool runs nothing notices, says so, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from pgjobs_celery.worker.overseer import STUCK_AFTER

from . import hooked
from .conftest import StartWorker, producing
from .rows import Rows, assert_finished, errors

#: A look at each of these polls: the tests need not wait for half a minute.
CONF = {"broker_transport_options": {"poll_interval": 0.3}}
SAID = "the pool runs nothing, and has not reported the end of jobs"


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    with producing(hooked.app, url) as app:
        yield app


def test_jobs_whose_end_nobody_has_heard_of_are_given_up(
    app: Celery, worker: StartWorker, rows: Rows
) -> None:
    running = worker(pool="threads", app="tests.e2e.hooked", conf=CONF)
    lost = [hooked.unheard.delay(), hooked.unheard_late.delay()]
    for result in lost:
        rows.wait(result.id, "executing", "discarded")
    assert hooked.add.delay(1, 2).get(timeout=30) == 3
    for result in lost:
        row = rows.wait(result.id, timeout=30)
        assert_finished(row, "discarded")
        assert errors(row) == [(1, "WorkerLostError")]
    assert SAID in running.log


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_jobs_that_never_came_to_the_pool_go_back_in_line(
    pool: str, app: Celery, worker: StartWorker, rows: Rows, tmp_path: Path
) -> None:
    running = worker(pool=pool, app="tests.e2e.hooked", conf=CONF)
    lost = [hooked.unsent.delay(str(tmp_path / f"unsent{n}"), 1) for n in range(2)]
    assert [result.get(timeout=30) for result in lost] == ["sent", "sent"]
    for result in lost:
        assert_finished(rows.wait(result.id))
    assert hooked.add.delay(1, 2).get(timeout=30) == 3
    assert SAID in running.log


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_nothing_is_given_up_that_runs_for_long(
    pool: str, app: Celery, worker: StartWorker, rows: Rows, tmp_path: Path
) -> None:
    running = worker(pool=pool, app="tests.e2e.hooked", conf=CONF, concurrency=2)
    started, release = tmp_path / "started", tmp_path / "release"
    results = [hooked.hold.delay(str(started), str(release)) for _ in range(2)]
    rows.wait(results[0].id, "executing")
    # Longer than would do it: there is no event to wait for.
    rows.select("SELECT pg_sleep(%s)", 1.5 * STUCK_AFTER)
    release.touch()
    assert [result.get(timeout=20) for result in results] == ["released", "released"]
    assert SAID not in running.log
