"""A Patroni cluster whose leader is killed, stopped and switched over while jobs run.

``make ha`` runs it, ten changes of the leader in each mode; HA_CHANGES sets another number. With a
synchronous standby nothing that was acknowledged is lost and nothing is doubled. An asynchronous
one may lack the last commits: what that costs is counted and printed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from ..chaos import tasks
from ..chaos.oracle import Oracle, Verdict, read_rows
from ..chaos.producing import Producer
from ..conftest import close_app
from ..e2e.conftest import running_workers
from ..support.waiting import wait_for
from .cluster import Cluster

CHANGES = int(os.environ.get("HA_CHANGES", "0"))

if not CHANGES:
    pytest.skip("takes ten minutes: make ha", allow_module_level=True)

#: Seconds of load between two changes.
PAUSE = 3.0
#: How long the rest may take once the faults are over.
DRAIN = 120.0

APP = "tests.chaos.tasks"
OPTIONS = {
    # Three hosts of which one may hang: the next is tried after that.
    "broker_transport_options": {"connect_timeout": 3.0},
}


def run_under_faults(cluster: Cluster, folder: Path) -> tuple[Verdict, dict[str, Any]]:
    """Publish and run jobs while the leader changes; what the oracle says, and some figures."""
    oracle = folder / "oracle"
    oracle.touch()
    done: Counter[str] = Counter()
    took: list[float] = []
    tasks.app.conf.update(broker_url=cluster.url, result_backend=cluster.url, **OPTIONS)
    with running_workers(cluster.url, folder) as start:
        env = {"PGJOBS_CHAOS_ORACLE": str(oracle)}
        start(app=APP, conf=OPTIONS, env=env)
        start(app=APP, conf=OPTIONS, env=env, pool="threads")
        producers = [Producer(tasks.app, cluster.connect, seed, pause=0.01) for seed in range(2)]
        for producer in producers:
            producer.start()
        try:
            for name in islice(cycle(cluster.faults), CHANGES):
                time.sleep(PAUSE)  # load between the faults
                begun = time.monotonic()
                cluster.faults[name]()
                done[name] += 1
                took.append(time.monotonic() - begun)
        finally:
            for producer in producers:
                producer.stop()
        with cluster.connect() as connection:
            unfinished = "SELECT task, state FROM pgjobs.jobs WHERE finished_at IS NULL"
            wait_for(
                lambda: not connection.execute(unfinished).fetchall(),
                DRAIN,
                lambda: connection.execute(unfinished).fetchall(),
            )
    close_app(tasks.app)
    with cluster.connect() as connection:
        rows = read_rows(connection)
    published = {k: v for producer in producers for k, v in producer.published.items()}
    seen = Oracle(oracle)
    figures = {
        "changes": dict(done),
        "published": len(published),
        "failed to be published": sum(producer.failed for producer in producers),
        "runs": sum(seen.runs.values()),
        "states": dict(Counter(row["state"] for row in rows.values())),
        "seconds a change, until the cluster was whole": [round(each) for each in took],
    }
    return seen.judge(published, rows), figures


@pytest.mark.timeout(120 * (CHANGES + 4))
def test_a_synchronous_cluster_loses_and_doubles_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Cluster(is_synchronous=True) as cluster:
        verdict, figures = run_under_faults(cluster, tmp_path)
    with capsys.disabled():
        print(f"\nsynchronous: {figures}")
    assert verdict.failures() == {}
    assert figures["published"] > 100


@pytest.mark.timeout(120 * (CHANGES + 4))
def test_an_asynchronous_cluster_loses_the_last_commits_at_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Cluster(is_synchronous=False) as cluster:
        verdict, figures = run_under_faults(cluster, tmp_path)
    lost = {name: len(found) for name, found in verdict.failures().items()}
    with capsys.disabled():
        print(f"\nasynchronous: {figures}; lost or doubled: {lost or 'nothing'}")
    # A job that the new leader has never heard of, or one whose claim or outcome it does not know:
    # all others come to their end.
    assert not verdict.unfinished
    assert not verdict.unexplained
    assert figures["published"] > 100
