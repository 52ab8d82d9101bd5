"""``explain`` of jobs that real workers run, lose, expire and do not know."""

from __future__ import annotations

from pathlib import Path

from celery import Celery

from pgjobs_celery import jobs, queues
from pgjobs_celery.control.explanation import Explanation

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows

#: A lease that makes the test quick.
QUICK = {"pgjobs_lease": 3, "pgjobs_heartbeat_interval": 0.5}


def test_a_jobs_life_is_explained(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    def why(result: object) -> Explanation:
        return jobs(app).get(result).explain()

    started, release = tmp_path / "started", tmp_path / "release"
    queues(app).pause("celery")
    held = tasks.hold_late.delay(str(started), str(release))
    assert why(held).kind == "queue_paused"
    queues(app).resume("celery")
    assert why(held).kind == "no_consumer"

    first = worker(pool="prefork", concurrency=1, conf=QUICK)
    wait_for(started.exists)
    found = why(held)
    assert found.kind == "running"
    assert f"{first.name} has had it since" in found.text
    assert "attempt 1 of 20" in found.text

    queues(app).limit("celery", 1)
    other = tasks.add.delay(1, 2)
    found = why(other)
    assert found.kind == "limit_full"
    assert found.details["oldest"][0]["task_id"] == held.id
    late, unknown = tasks.add.apply_async((1, 2), expires=0.1), app.send_task("tests.unknown")
    assert why(unknown).kind == "unknown_to_workers"

    started.unlink()
    first.kill()
    assert why(held).kind in ("running", "worker_silent")
    wait_for(lambda: why(held).kind == "no_maintenance")
    assert f"{first.name}, which has the job, is dead" in why(held).text

    second = worker(pool="prefork", concurrency=1, conf=QUICK)
    wait_for(started.exists)
    found = why(held)
    assert found.kind == "running"
    assert f"{second.name} has had it since" in found.text
    assert "attempt 2 of 20" in found.text
    release.touch()
    for result in (held, other, late, unknown):
        rows.wait(result)
    assert why(held).kind == "completed"
    assert why(late).kind == "expired"
    found = why(unknown)
    assert found.kind == "unknown_task"
    assert found.text.startswith(f"{second.name} does not know the task tests.unknown")

    second.stop()
    found = why(tasks.add.delay(1, 2))
    assert found.kind == "no_consumer"
    assert found.details["worker"] == second.name
