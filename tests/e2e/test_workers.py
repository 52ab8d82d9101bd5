"""``workers(app)`` of real workers: each tells what it is, and holds what it runs."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

import celery
import pytest
from celery import Celery

from pgjobs_celery import __version__, workers

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker

QUICK = {"pgjobs_lease": 3, "pgjobs_heartbeat_interval": 0.5}


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_worker_tells_what_it_is_and_runs(
    worker: StartWorker, app: Celery, tmp_path: Path, pool: str
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    one = worker(pool=pool, concurrency=3, queues=["celery", "mail"], conf=QUICK)
    result = tasks.hold_late.delay(str(started), str(release))
    wait_for(started.exists)
    (found,) = workers(app)
    (job,) = found.jobs
    assert (job.task_id, job.task, job.queue) == (result.id, tasks.hold_late.name, "celery")
    assert (found.name, found.pool, found.pid) == (one.name, pool, one.pid)
    assert found.slots == (1 if pool == "solo" else 3)
    assert (found.host, found.python) == (socket.gethostname(), platform.python_version())
    assert (found.version, found.celery) == (__version__, celery.__version__)
    assert set(found.queues) == {"celery", "mail"}
    assert tasks.hold_late.name in found.tasks
    release.touch()
    wait_for(lambda: not workers(app)[0].jobs)


def test_a_worker_is_listed_from_its_death_to_its_burial(
    worker: StartWorker, app: Celery, tmp_path: Path
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    one = worker(pool="prefork", concurrency=1, conf=QUICK)
    app.control.pool_grow(1)
    wait_for(lambda: [each.slots for each in workers(app)] == [2])
    tasks.hold_late.delay(str(started), str(release))
    wait_for(started.exists)
    one.kill()
    wait_for(lambda: [each.is_alive for each in workers(app)] == [False])
    assert len(workers(app)[0].jobs) == 1
    two = worker(pool="prefork", concurrency=1, conf=QUICK)
    wait_for(lambda: [each.name for each in workers(app)] == [two.name])
    release.touch()
