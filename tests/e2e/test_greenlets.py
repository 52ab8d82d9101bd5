"""Workers and clients on gevent and eventlet: nobody who waits holds up the others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import celery
import pytest
from celery import Celery, chord

from ..support.waiting import wait_for
from . import tasks
from .conftest import ROOT, StartWorker
from .rows import Rows, assert_finished, errors
from .tasks import add, tsum

POOLS = [
    pytest.param(
        pool, marks=pytest.mark.skipif(find_spec(pool) is None, reason=f"{pool} is not installed")
    )
    for pool in ("gevent", "eventlet")
]

#: The head of a program whose every wait yields to the others.
PATCHES = {
    "gevent": """
from gevent import monkey; monkey.patch_all()
import gevent
spawn, wait = gevent.spawn, gevent.Greenlet.get
""",
    "eventlet": """
import eventlet; eventlet.monkey_patch()
spawn, wait = eventlet.spawn, lambda greenlet: greenlet.wait()
""",
}

CLIENTS = """
from tests.e2e.tasks import add

clients = [spawn(lambda n=n: add.delay(n, 1).get(timeout=20)) for n in range(50)]
print([wait(client) for client in clients] == list(range(1, 51)))
"""

STATEMENTS = """
import time
from pgjobs_celery.db.connection import Call, Connection, Prepared
from pgjobs_celery.db.dsn import parse_url
from tests.e2e.tasks import URL

nap = [Call(Prepared(b"nap", b"SELECT pg_sleep(1)", (), "", {}), [], [], {})]
connections = [
    Connection(parse_url(URL), connect_timeout=5, prepare=True) for _ in range(4)
]
began = time.monotonic()
for greenlet in [spawn(lambda each=each: each.run(nap)) for each in connections]:
    wait(greenlet)
print(time.monotonic() - began < 3)
"""


def run_patched(pool: str, program: str, url: str) -> None:
    """Run the program; it prints True if all is well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PATCHES[pool] + program],
        cwd=ROOT, env={**os.environ, "PGJOBS_TEST_URL": url}, text=True, timeout=60, check=False,
        capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True\n")
    if pool != "eventlet":  # on Python 3.13 its hub may complain when the program ends
        assert done.stderr == ""


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_on_greenlets_runs_tasks_side_by_side(
    pool: str, worker: StartWorker, app: Celery, rows: Rows
):
    started = worker(pool=pool, concurrency=10, args=["--loglevel", "DEBUG"])
    naps = [tasks.sleep.delay(1) for _ in range(10)]
    total = chord([add.s(number, 1) for number in range(10)])(tsum.s())
    assert [nap.get(timeout=20) for nap in naps] == [1] * 10
    assert total.get(timeout=20) == 55
    took = rows.select(
        "SELECT extract(epoch FROM max(finished_at) - min(attempted_at))::float AS seconds "
        "FROM pgjobs.jobs WHERE task = %s", tasks.sleep.name
    )  # fmt: skip
    assert took[0]["seconds"] < 5
    assert tasks.retry.delay(2).get(timeout=20) == 2
    with pytest.raises(tasks.CustomError):
        tasks.fail.delay().get(timeout=20)
    # It leaves at once; Celery's loop would first wait for messages, for two seconds and two more.
    told = datetime.now()
    assert started.stop() == 0
    left = re.search(r"\[(\S+ \S+),\d+: DEBUG/MainProcess\] \| Worker: Closing Pool", started.log)
    assert left
    assert datetime.fromisoformat(left[1]) - told < timedelta(seconds=1.5)


@pytest.mark.parametrize("pool", POOLS)
def test_fifty_greenlets_publish_and_wait(pool: str, worker: StartWorker, url: str):
    worker(pool="threads", concurrency=4)
    run_patched(pool, CLIENTS, url)


@pytest.mark.parametrize("pool", POOLS)
def test_a_greenlet_that_waits_for_a_statement_lets_the_others_run(pool: str, url: str):
    run_patched(pool, STATEMENTS, url)


@pytest.mark.parametrize("pool", POOLS[:1])
def test_a_task_that_holds_up_all_greenlets_does_not_look_like_death(
    pool: str, worker: StartWorker, app: Celery, rows: Rows
):
    conf = {"pgjobs_lease": 1.2, "pgjobs_heartbeat_interval": 0.3}
    started = worker(pool=pool, concurrency=4, conf=conf)
    worker(pool="solo", queues=["other"], conf=conf)  # would call it dead
    tasks.add.apply_async((1, 2), queue="other").get(timeout=10)
    assert tasks.block_late.delay(3).get(timeout=20) == 3
    row = rows.wait(tasks.block_late.delay(0).id)
    assert_finished(row)
    assert {row["attempt"] for row in rows.select("SELECT attempt FROM pgjobs.jobs")} == {1}
    assert "no longer ours" not in started.log


@pytest.mark.parametrize("pool", POOLS)
def test_a_greenlet_that_is_killed_leaves_its_job_as_a_process_would(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
):
    started = worker(pool=pool, concurrency=4)
    begun, release = tmp_path / "begun", str(tmp_path / "release")
    revoked, early, late, ignored = (
        tasks.hold.delay(str(begun), release),
        tasks.hold.delay(str(begun), release),
        tasks.hold_late.delay(str(begun), release),
        tasks.hold.apply_async((str(begun), release), ignore_result=True),
    )
    wait_for(lambda: begun.exists() and begun.read_text().count("\n") == 4)
    waiting = tasks.add.delay(1, 2)
    app.control.revoke(revoked.id, terminate=True)
    assert_finished(rows.wait(revoked.id), "cancelled")
    assert waiting.get(timeout=10) == 3
    started.send(signal.SIGQUIT)
    started.process.wait(timeout=15)
    for result in (early, ignored):
        row = rows.get(result.id)
        assert_finished(row, "discarded")
        assert errors(row) == [(1, "WorkerLostError")]
    row = rows.get(late.id)
    assert errors(row) == [(1, "WorkerShutdown")]
    if pool == "gevent" or celery.VERSION >= (5, 6):
        # Celery 5.5 goes on consuming meanwhile, and takes it again.
        assert (row["state"], row["attempt"]) == ("available", 1)
        assert rows.nodes() == {}
