"""Pools that grow, shrink and replace their children, and workers that are started otherwise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from celery import Celery

from ..support.celery_process import run_celery
from ..support.waiting import wait_for
from . import tasks
from .conftest import ROOT, StartWorker
from .rows import Rows
from .test_connections import sessions
from .test_running import recorded

#: Starts and stops workers in its own process, as test suites do, and says what they leave behind.
TEST_SUITE = """
import json, sys, threading, time
import celery.contrib.testing.tasks
import psycopg
from celery import Celery
from celery.contrib.testing.worker import start_worker
from pgjobs_celery.db.dsn import parse_url

def count(url, what):
    with psycopg.connect(parse_url(url)) as connection:
        return connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0]

SESSIONS = (
    "pg_stat_activity WHERE datname = current_database() AND application_name = 'pgjobs-celery'"
)
for pool in ("solo", "threads", "solo"):
    for url in sys.argv[1:]:
        app = Celery(broker=url, backend=url)

        @app.task(name=f"add-{pool}", shared=False)
        def add(x, y):
            return x + y

        with start_worker(app, pool=pool, perform_ping_check=True):
            assert [add.delay(n, 1).get(timeout=5) for n in range(10)] == list(range(1, 11))
        app.backend.close()
        deadline = time.monotonic() + 3  # a session takes a moment to end, and so does a thread
        while time.monotonic() < deadline:
            threads = {thread.name for thread in threading.enumerate()} & {"pgjobs-maintenance"}
            if not (sessions := count(url, SESSIONS)) and not threads:
                break
            time.sleep(0.05)
        print(pool, count(url, "pgjobs.nodes"), sessions, sorted(threads))
"""


def test_a_pool_that_scales_itself_grows_with_what_waits_and_shrinks_again(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(args=["--autoscale", "3,1"], env={"AUTOSCALE_KEEPALIVE": "0.5"})

    def size() -> int:
        replies = app.control.inspect([started.name], timeout=10).stats()
        return int(replies[started.name]["autoscaler"]["current"])

    for number in range(2):
        begun, release = tmp_path / f"begun{number}", tmp_path / f"release{number}"
        results = [tasks.hold.delay(str(begun), str(release)) for _ in range(5)]
        wait_for(lambda begun=begun: begun.exists() and begun.read_text().count("\n") == 3)
        # No more than it may grow to.
        assert rows.count()["available"] == 2
        release.touch()
        assert [result.get(timeout=10) for result in results] == ["released"] * 5
        wait_for(lambda: size() == 1)
    assert {row["attempt"] for row in rows.select("SELECT attempt FROM pgjobs.jobs")} == {1}
    assert started.stop() == 0


def test_children_that_are_replaced_lose_nothing_and_leave_no_connection(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    args = ["--max-tasks-per-child", "4", "--max-memory-per-child", "1000000", "--time-limit", "60"]
    worker(pool="prefork", concurrency=2, args=args)
    results = [tasks.record.delay(str(lines), number) for number in range(20)]
    # These a child writes itself, over a connection of its own.
    large = [tasks.big.delay(70_000) for _ in range(4)]
    rows.wait_count(completed=24, timeout=30)
    assert sorted(recorded(lines)) == list(range(20))
    pids = {json.loads(line)["pid"] for line in lines.read_text().splitlines()}
    assert len(pids) > 2
    assert [result.get(timeout=5) for result in results] == list(range(20))
    assert [len(result.get(timeout=5)) for result in large] == [70_000] * 4
    assert {row["attempt"] for row in rows.select("SELECT attempt FROM pgjobs.jobs")} == {1}
    # Of the worker three or four, of its two children one each, and two of this process.
    assert sessions(rows) <= 8


def test_a_worker_beats_and_works(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    schedule = {"tick": {"task": tasks.add.name, "schedule": 0.3, "args": [1, 2]}}
    started = worker(
        args=["--beat", "--schedule", str(tmp_path / "schedule"), "--statedb", str(tmp_path / "s")],
        conf={"beat_schedule": schedule, "beat_max_loop_interval": 0.3},
    )
    wait_for(lambda: rows.count().get("completed", 0) >= 3)
    assert len(started.children()) == 3
    # Of the worker three, or four where it is slow, and of the beat that it has forked one.
    assert sessions(rows) <= 5
    assert started.stop() == 0
    assert rows.count().get("executing", 0) == 0
    assert rows.nodes() == {}


def test_workers_in_a_test_suite_leave_nothing_behind(
    url: str, make_database: Callable[[], str], tmp_path: Path
) -> None:
    other = make_database()
    environment = {**os.environ, "PGJOBS_TEST_URL": url}
    run_celery("-b", other, "pgjobs", "migrate", env=environment).check_returncode()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TEST_SUITE, url, other],
        env=environment, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{pool} 0 0 []" for pool in ("solo", "threads", "solo") for _ in range(2)
    ]


def test_two_nodes_of_celery_multi_leave_nothing_running(
    app: Celery, url: str, rows: Rows, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"

    def multi(*arguments: str) -> None:
        subprocess.run(
            [
                *(sys.executable, "-m", "celery", "-A", "tests.e2e.tasks", "multi", *arguments),
                *("one", "two", "-P", "threads", "-c", "2", f"--pidfile={tmp_path}/%n.pid"),
                f"--logfile={tmp_path}/%n.log",
            ],
            env={**os.environ, "PGJOBS_TEST_URL": url},
            cwd=ROOT, check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def names() -> set[str]:
        return {name.split("@")[0] for name in rows.nodes().values()}

    try:
        multi("start")
        wait_for(lambda: names() == {"one", "two"}, 20)
        results = [tasks.record.delay(str(lines), number) for number in range(100)]
        assert [result.get(timeout=10) for result in results] == list(range(100))
        for _ in range(20):
            tasks.sleep.delay(0.3)
        wait_for(lambda: rows.count().get("executing"))
        multi("stopwait")
    finally:
        for path in tmp_path.glob("*.pid"):
            os.kill(int(path.read_text()), signal.SIGKILL)
    assert rows.count().keys() <= {"completed", "available"}
    assert names() == set()
    assert sorted(recorded(lines)) == list(range(100))
