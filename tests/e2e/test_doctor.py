"""The doctor and real workers: a busy one is well; what a dead one leaves is found, and mended."""

from __future__ import annotations

import shlex
from pathlib import Path

from celery import Celery, chord

from pgjobs_celery.db.database import Database
from tests.support.doctoring import codes, look

from ..conftest import Connection
from ..support.celery_process import run_celery
from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows

#: Nothing of a healthy system may last as long.
STRICT = {
    "unconsumed": 10.0, "late_job": 10.0, "chord": 10.0, "message": 10.0, "transaction": 10.0,
    "silence": 10.0, "vacuum": 0.0, "twice": 1.0,
}  # fmt: skip
QUICK = {"pgjobs_lease": 3, "pgjobs_heartbeat_interval": 0.5}


def run(url: str, remedy: str) -> None:
    """Run a remedy of ours as it is printed."""
    words = shlex.split(remedy)
    assert words[:3] == ["celery", "-A", "proj"]
    run_celery("-b", url, "--result-backend", url, *words[3:]).check_returncode()


def test_a_busy_worker_is_well(
    worker: StartWorker, app: Celery, database: Database, rows: Rows
) -> None:
    """Jobs of all kinds go through while the doctor looks again and again."""
    worker(pool="threads", concurrency=4)
    results = []
    for round_ in range(5):
        results += [tasks.add.delay(round_, n) for n in range(200)]
        results.append(chord([tasks.add.s(1, n) for n in range(5)])(tasks.tsum.s()))
        results.append(tasks.add.apply_async((1, 2), countdown=0.3))
        assert look(database, app, **STRICT) == {}
    for result in results:
        assert result.get(timeout=30) is not None
    assert look(database, app, **STRICT) == {}


def test_a_dead_worker_is_found_and_maintenance_takes_its_jobs(
    worker: StartWorker,
    app: Celery,
    database: Database,
    connection: Connection,
    url: str,
    rows: Rows,
    tmp_path: Path,
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    held = tasks.hold_late.delay(str(started), str(release))
    first = worker(pool="prefork", concurrency=1, conf=QUICK)
    wait_for(started.exists)
    assert codes(database) == []
    first.kill()
    found = wait_for(lambda: look(database))
    assert set(found) == {("dead_node", first.name)}
    run(url, found["dead_node", first.name].remedy)
    assert look(database) == {}

    connection.execute("UPDATE pgjobs.jobs SET scheduled_at = now() - interval '3 min'")
    found = look(database)
    assert set(found) == {("queue_without_consumer", "celery")}
    assert found["queue_without_consumer", "celery"].remedy == "celery -A proj worker -Q celery"
    release.touch()
    worker(queues=["celery"], pool="threads")
    rows.wait(held)
    wait_for(lambda: look(database) == {})
