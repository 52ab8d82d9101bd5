"""Workers and clients on gevent and eventlet: nobody who waits holds up the others."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from celery import Celery, chord

from . import tasks
from .conftest import ROOT, StartWorker
from .rows import Rows
from .tasks import add, tsum

POOLS = [
    pytest.param(
        pool, marks=pytest.mark.skipif(find_spec(pool) is None, reason=f"{pool} is not installed")
    )
    for pool in ("gevent", "eventlet")
]

CLIENT = """
from gevent import monkey; monkey.patch_all()
import gevent
from tests.e2e.tasks import add

clients = [gevent.spawn(lambda n=n: add.delay(n, 1).get(timeout=20)) for n in range(50)]
gevent.joinall(clients, raise_error=True)
print([client.value for client in clients] == list(range(1, 51)))
"""


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_on_greenlets_runs_tasks_side_by_side(
    pool: str, worker: StartWorker, app: Celery, rows: Rows
):
    worker(pool=pool, concurrency=10)
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


def test_fifty_greenlets_publish_and_wait(worker: StartWorker, url: str):
    pytest.importorskip("gevent")
    worker(pool="threads", concurrency=4)
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        cwd=ROOT, env={**os.environ, "PGJOBS_TEST_URL": url}, text=True, timeout=60, check=False,
        capture_output=True,
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr
