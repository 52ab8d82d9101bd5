"""Workers die, stall and come back: their jobs return in seconds, a live worker's never do.

All of this takes leases to end, so it is played side by side (see scenes.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..support.celery_process import CeleryProcess, run_celery
from ..support.waiting import wait_for
from . import tasks
from .conftest import ROOT
from .rows import Rows, assert_finished, errors
from .scenes import Scene, Stage, playing

#: A lease that makes the tests quick; a rescuer has to have lived for as long.
QUICK = {"pgjobs_lease": 3, "pgjobs_heartbeat_interval": 0.5}


#: Seconds that a busy machine may take for the rescue itself.
BUSY = 5.0


def is_steady(rows: Rows, count: int) -> bool:
    """True once that many nodes have lived long enough to call others dead."""
    found = rows.select(
        "SELECT node FROM pgjobs.nodes"
        " WHERE steady_since < now() - (least(lease, 5) + 0.5) * interval '1 s'"
    )
    return len(found) >= count


def queues_of(rows: Rows, name: str) -> list[Any]:
    """The queues that were for this worker alone."""
    return rows.select("SELECT name FROM pgjobs.queues WHERE name LIKE %s", f"{name}%")


def a_killed_workers_jobs_are_back_in_seconds(stage: Stage, pool: str) -> None:
    worker, rows, folder = stage.worker, stage.open_rows(), stage.folder
    victim = worker(pool=pool, concurrency=2, conf=QUICK)
    worker(pool="threads", queues=["other"], conf=QUICK)
    late = stage.task(tasks.hold_late).delay(str(folder / "late"), str(folder / "release"))
    wait_for((folder / "late").exists)
    early = None
    if pool != "solo":
        early = stage.task(tasks.hold).delay(str(folder / "early"), str(folder / "release"))
        wait_for((folder / "early").exists)
    record = stage.task(tasks.record)
    waiting = [record.delay(str(folder / "lines"), number) for number in range(20)]
    # The bystander names a queue of its own so that the victim gets the jobs; it rescues all.
    wait_for(lambda: rows.nodes() and is_steady(rows, 1), 15)
    victim.kill()
    killed = time.monotonic()
    row = rows.wait(late.id, "available", timeout=15)
    stage.shown.append(f"{pool}: back after {time.monotonic() - killed:.1f} s")
    assert (row["attempt"], row["redelivered"], row["claimed_by"]) == (1, True, None)
    assert errors(row) == [(1, "WorkerLostError")]
    if early is not None:
        lost = rows.get(early.id)
        assert_finished(lost, "discarded")
        assert errors(lost) == [(1, "WorkerLostError")]
        assert "may have run" in lost["errors"][0]["message"]
        with pytest.raises(Exception, match="was lost"):
            early.get(timeout=5)
    # What waited behind them was not touched: a worker claims only what its pool can begin.
    assert {rows.get(result.id)["state"] for result in waiting} == {"available"}
    wait_for(lambda: not queues_of(rows, victim.name), message=lambda: queues_of(rows, victim.name))
    stage.shown.append(f"{pool}: its queues gone after {time.monotonic() - killed:.1f} s")
    (folder / "release").touch()
    worker(pool="threads", conf=QUICK)
    assert late.get(timeout=10) == "released"
    assert [result.get(timeout=10) for result in waiting] == list(range(20))
    assert len((folder / "lines").read_text().splitlines()) == 20


def with_the_defaults_a_killed_workers_jobs_are_back_within_15_seconds(stage: Stage) -> None:
    worker, rows, folder = stage.worker, stage.open_rows(), stage.folder
    victim = worker(pool="prefork")
    worker(pool="threads", queues=["other"])
    late = stage.task(tasks.hold_late).delay(str(folder / "late"), str(folder / "release"))
    wait_for((folder / "late").exists)
    wait_for(lambda: is_steady(rows, 1), 15)
    victim.kill()
    killed = time.monotonic()
    rows.wait(late.id, "available")
    seconds = time.monotonic() - killed
    stage.shown.append(f"back after {seconds:.1f} s")
    assert 10 < seconds < 15 + BUSY


def a_stopped_worker_that_comes_back_changes_nothing(stage: Stage, pool: str) -> None:
    worker, rows, folder = stage.worker, stage.open_rows(), stage.folder
    release = str(folder / "release")
    stopped = worker(pool=pool, concurrency=2, conf=QUICK)
    results = [
        stage.task(tasks.hold_late).delay(str(folder / "runs"), release),
        stage.task(tasks.hold_and_fail_late).delay(str(folder / "runs"), release),
    ]
    wait_for(lambda: runs(folder) == 2)
    other = worker(pool="threads", concurrency=2, conf=QUICK)
    wait_for(lambda: is_steady(rows, 1), 15)
    os.killpg(stopped.pid, signal.SIGSTOP)
    # The other runs them again, and holds them.
    wait_for(lambda: runs(folder) == 4, 20)
    held = [rows.get(result.id) for result in results]
    assert {(row["state"], row["attempt"], row["attempted_by"]) for row in held} == {
        ("executing", 2, other.name)
    }
    os.killpg(stopped.pid, signal.SIGCONT)
    (folder / "release").touch()
    assert results[0].get(timeout=10) == "released"
    with pytest.raises(tasks.CustomError):
        results[1].get(timeout=10)
    for result, state in zip(results, ["completed", "discarded"], strict=True):
        row = rows.wait(result.id)
        assert_finished(row, state, attempt=2)
        assert row["attempted_by"] == other.name
    # Once for each job; and counted.
    wait_for(lambda: stopped.log.count("no longer ours") == 2, message=lambda: stopped.log)
    lost = "SELECT lost_claims FROM pgjobs.nodes WHERE name = %s"
    wait_for(lambda: rows.select(lost, stopped.name) == [{"lost_claims": 2}])
    # Its mailbox went with it, and it has to find out.
    inspect = stage.app.control.inspect([stopped.name], timeout=1)
    stats = wait_for(inspect.stats, 20)[stopped.name]["pgjobs"]
    assert (stats["lost_claims"], stats["held"], stats["fenced"]) == (2, 0, False)
    # It is alive again, and works.
    other.stop()
    assert stage.task(tasks.add).delay(1, 2).get(timeout=10) == 3
    assert stopped.log.count("no longer ours") == 2


def runs(folder: Path) -> int:
    """How many tasks have begun."""
    path = folder / "runs"
    return path.read_text().count("\n") if path.exists() else 0


def a_stall_of_10_seconds_makes_nobody_dead(stage: Stage) -> None:
    worker, rows, folder = stage.worker, stage.open_rows(), stage.folder
    # With the defaults. The solo pool's main thread is inside the task for even longer.
    workers = [worker(pool="solo"), worker(pool="threads")]
    results = [stage.task(tasks.sleep_late).delay(12, str(folder / "runs")) for _ in range(2)]
    wait_for(lambda: runs(folder) == 2)
    wait_for(lambda: is_steady(rows, 2), 15)
    assert stage.server is not None
    assert stage.server.pid is not None
    database = psutil.Process(stage.server.pid)
    processes = [database, *database.children()]
    for process in processes:
        process.suspend()
    time.sleep(10)  # the stall itself
    for process in processes:
        process.resume()
    assert [result.get(timeout=20) for result in results] == [12, 12]
    for result in results:
        assert_finished(rows.get(result.id), attempt=1)
    assert runs(folder) == 2
    assert set(rows.nodes().values()) == {each.name for each in workers}
    assert all("is dead" not in each.log for each in workers)
    assert rows.select("SELECT sum(lost_claims)::int AS n FROM pgjobs.nodes") == [{"n": 0}]


def a_task_longer_than_the_lease_runs_once(stage: Stage) -> None:
    worker, rows, folder = stage.worker, stage.open_rows(), stage.folder
    worker(pool="solo", concurrency=1, conf=QUICK)
    worker(pool="threads", queues=["other"], conf=QUICK)
    result = stage.task(tasks.sleep_late).delay(6, str(folder / "runs"))
    assert result.get(timeout=20) == 6
    assert_finished(rows.get(result.id), attempt=1)
    assert len((folder / "runs").read_text().splitlines()) == 1


def an_outage_longer_than_the_lease_makes_nobody_dead(stage: Stage) -> None:
    server, folder = stage.server, stage.folder
    assert server is not None
    for _ in range(2):
        stage.worker(pool="threads", concurrency=4, conf=QUICK)
    results = [
        stage.task(tasks.hold_late).delay(str(folder / f"started{n}"), str(folder / "release"))
        for n in range(4)
    ]
    wait_for(lambda: all((folder / f"started{n}").exists() for n in range(4)))
    rows = stage.open_rows()
    wait_for(lambda: is_steady(rows, 2), 15)
    server.stop("immediate")
    time.sleep(5)  # the outage itself: longer than the lease
    server.start()
    rows = stage.open_rows()
    wait_for(lambda: len(rows.nodes()) == 2 and is_steady(rows, 2), 20)
    (folder / "release").touch()
    for number, result in enumerate(results):
        assert result.get(timeout=15) == "released"
        assert_finished(rows.get(result.id), attempt=1)
        assert len((folder / f"started{number}").read_text().splitlines()) == 1


def maintenance_can_be_run_beside_the_workers(stage: Stage) -> None:
    worker, rows, folder = stage.worker, stage.open_rows(), stage.folder
    victim = worker(pool="prefork", conf={**QUICK, "pgjobs_maintenance": False})
    late = stage.task(tasks.hold_late).delay(str(folder / "late"), str(folder / "release"))
    scheduled = stage.task(tasks.add).apply_async((1, 2), countdown=1)
    wait_for((folder / "late").exists)
    victim.kill()
    command = ["pgjobs", "maintain", "--url", stage.url]
    maintain = CeleryProcess(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        rows.wait(late.id, "available", timeout=20)
        rows.wait(scheduled.id, "available")
    finally:
        maintain.send_signal(signal.SIGTERM)
        output, _ = maintain.communicate(timeout=10)
    assert maintain.returncode == 0, output
    assert "is dead" in output
    assert "rescue: 1 put back in line" in output
    assert rows.nodes() == {}
    once = run_celery(*command, "--once", cwd=ROOT, timeout=30)
    assert once.returncode == 0, once.stderr


#: Those that take longest first.
SCENES = [
    Scene(with_the_defaults_a_killed_workers_jobs_are_back_within_15_seconds),
    Scene(maintenance_can_be_run_beside_the_workers),
    Scene(a_stall_of_10_seconds_makes_nobody_dead, needs_server=True),
    Scene(an_outage_longer_than_the_lease_makes_nobody_dead, needs_server=True),
    Scene(a_killed_workers_jobs_are_back_in_seconds, "prefork"),
    Scene(a_killed_workers_jobs_are_back_in_seconds, "solo"),
    Scene(a_stopped_worker_that_comes_back_changes_nothing, "threads"),
    Scene(a_stopped_worker_that_comes_back_changes_nothing, "prefork"),
    Scene(a_task_longer_than_the_lease_runs_once),
]


@pytest.fixture(scope="module")
def end(
    request: pytest.FixtureRequest,
    make_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Scene], None]]:
    """Begin all of them at once; gives the end of each."""
    with playing(request, make_database, tmp_path_factory.mktemp("scenes")) as end:
        yield end


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_where_workers_die_or_stall(scene: Scene, end: Callable[[Scene], None]):
    end(scene)
