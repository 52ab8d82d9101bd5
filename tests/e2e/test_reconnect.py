"""Whatever becomes of a worker's connections, jobs flow again, and none runs twice.

The network is a TCP proxy in which connections end, are reset, or go on for ever without a word.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.embedded import EmbeddedServer

from ..conftest import close_app
from ..support.networks import BEAT, CLAIM, LISTEN, TO_CLIENT, TO_SERVER, Network
from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows
from .test_faults import recorded

#: Quick to doubt, so that the tests are quick.
OPTIONS = {"ask_after": 0.3, "poll_interval": 0.6}
CONF = {
    "broker_transport_options": OPTIONS,
    "pgjobs_lease": 3.0,
    "pgjobs_heartbeat_interval": 0.3,
}


@pytest.fixture
def network(server: EmbeddedServer, url: str) -> Iterator[Network]:
    """The way that the worker takes to the server; the test and its rows take another."""
    with Network(url) as network:
        yield network


class Jobs:
    """Jobs that say when they run: each must, soon, and once."""

    def __init__(self, path: Path, rows: Rows) -> None:
        self._path, self._rows = path, rows
        path.touch()
        self.count = 0

    def publish(self, count: int = 4) -> None:
        """Some with early acks, some with late ones."""
        for _ in range(count):
            task = (tasks.record, tasks.record_late)[self.count % 2]
            task.delay(str(self._path), self.count)
            self.count += 1

    def flow(self, seconds: float = 8.0, count: int = 4) -> None:
        """Publish some, and see that all have run once, within so many seconds."""
        self.publish(count)
        self.have_run(seconds)

    def have_run(self, seconds: float = 8.0) -> None:
        """See that all have run once, within so many seconds."""
        wait_for(lambda: len(recorded(self._path)) == self.count, seconds)
        wait_for(lambda: self._rows.count() == {"completed": self.count})
        assert recorded(self._path) == Counter(range(self.count))


@pytest.fixture
def jobs(app: Celery, rows: Rows, tmp_path: Path) -> Jobs:
    """Jobs for the worker."""
    return Jobs(tmp_path / "ran", rows)


def sessions(rows: Rows) -> set[int]:
    """The server's processes that serve this package."""
    return {
        row["pid"]
        for row in rows.select(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgjobs-celery'"
            " AND datname = current_database()"
        )
    }


@contextmanager
def stopped(pids: set[int]) -> Iterator[None]:
    """The server's processes that do nothing inside the block, and close nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def wait_beating(rows: Rows) -> None:
    """Until there is a heartbeat that is new."""
    (row,) = rows.select("SELECT now() AS now")
    wait_for(lambda: rows.select("SELECT FROM pgjobs.nodes WHERE heartbeat_at > %s", row["now"]))


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_jobs_flow_again_whatever_the_network_does(
    pool: str, network: Network, worker: StartWorker, jobs: Jobs, rows: Rows
) -> None:
    started = worker(pool=pool, broker=network.url, conf=CONF)
    jobs.flow()

    def lose(*what: bytes, lost: tuple[str, ...] = (TO_SERVER, TO_CLIENT)) -> None:
        assert network.swallow(*what, lost=lost)

    faults: dict[str, Callable[[], Any]] = {
        "all end": network.cut,
        "all are reset": lambda: network.cut(reset=True),
        "all vanish": lose,
        "answers vanish": lambda: lose(CLAIM, lost=(TO_CLIENT,)),
        "heartbeats vanish": lambda: lose(BEAT),
    }
    for name, fault in faults.items():
        fault()
        began = time.monotonic()
        jobs.flow()
        print(f"{pool}, {name}: {time.monotonic() - began:.1f} s")
    wait_beating(rows)
    lose(LISTEN)
    jobs.flow(count=1)
    wait_for(lambda: any(not link.lost for link in network.links(LISTEN)))
    assert set(rows.nodes().values()) == {started.name}


def test_jobs_flow_again_when_the_server_hangs(
    network: Network, worker: StartWorker, jobs: Jobs, rows: Rows
) -> None:
    jobs.publish()
    mine = sessions(rows)
    worker(pool="threads", broker=network.url, conf=CONF)
    jobs.have_run()
    with stopped(sessions(rows) - mine):
        began = time.monotonic()
        jobs.flow()
        print(f"the server hangs: {time.monotonic() - began:.1f} s")
        wait_beating(rows)
    jobs.flow()


def test_a_claim_on_which_the_server_works_for_ever_is_noticed(
    network: Network,
    worker: StartWorker,
    jobs: Jobs,
    rows: Rows,
    url: str,
) -> None:
    """It says that it does, and so it is waited for; but jobs wait, and nobody looks."""
    conf = {**CONF, "broker_transport_options": {**OPTIONS, "poll_interval": 0.3}}
    started = worker(pool="threads", broker=network.url, conf=conf)
    jobs.flow()
    claiming = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' ORDER BY query_start LIMIT 1"
    )
    with psycopg.connect(parse_url(url)) as other:
        other.execute("LOCK TABLE pgjobs.limits")
        (claim,) = wait_for(lambda: rows.select(claiming))
        os.kill(claim["pid"], signal.SIGSTOP)
    with stopped({claim["pid"]}):
        began = time.monotonic()
        jobs.flow()
        print(f"a claim hangs: {time.monotonic() - began:.1f} s")
        assert "nobody has looked" in started.log
    # What it claims now nobody hears of.
    jobs.flow()


def test_jobs_flow_again_from_the_next_broker_and_when_none_was_there_for_longer_than_the_lease(
    network: Network, url: str, worker: StartWorker, jobs: Jobs, rows: Rows
) -> None:
    conf = {**CONF, "pgjobs_lease": 1.0, "pgjobs_heartbeat_interval": 0.2, "result_backend": url}
    with Network(url) as other:
        started = worker(pool="prefork", broker=f"{network.url};{other.url}", conf=conf)
        jobs.flow()
        network.close()
        network.cut()
        jobs.flow()
        assert set(rows.nodes().values()) == {started.name}
        other.close()
        other.cut()
        time.sleep(1.5)  # the fault itself
        other.open()
        jobs.flow()
    assert set(rows.nodes().values()) == {started.name}


def test_a_child_of_the_pool_notices_that_the_server_has_vanished(
    network: Network, worker: StartWorker, app: Celery, rows: Rows
) -> None:
    worker(pool="prefork", concurrency=1, broker=network.url, conf=CONF)
    tasks.publish_child.delay(1, 2).get(timeout=10)  # its connection is open from now on
    assert network.swallow()
    tasks.publish_child.delay(1, 2).get(timeout=10)
    rows.wait_count(completed=4)


def test_a_server_that_takes_no_writes_is_a_lost_connection(
    network: Network, worker: StartWorker, app: Celery, jobs: Jobs, rows: Rows, url: str
) -> None:
    """As behind a virtual address whose new server has not been promoted yet."""
    started = worker(pool="threads", broker=network.url, conf=CONF)
    jobs.flow()
    with psycopg.connect(parse_url(url), autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        publisher = threading.Thread(target=jobs.publish)
        try:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")
            wait_for(lambda: "takes no writes" in started.log)
            publisher.start()
        finally:
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")
    publisher.join(10)
    jobs.have_run()


def test_a_producer_and_who_waits_for_a_result_notice_that_the_server_has_vanished(
    network: Network, worker: StartWorker, rows: Rows, tmp_path: Path
) -> None:
    worker(pool="threads", conf=CONF)
    app = Celery("producer", broker=network.url, backend=network.url, set_as_current=False)
    app.conf.broker_transport_options = OPTIONS
    try:
        files = [str(tmp_path / "started"), str(tmp_path / "release")]
        held = app.send_task(tasks.hold.name, files)
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(held.get(timeout=10)))
        waiting.start()
        wait_for(Path(files[0]).exists)
        wait_for(lambda: network.links(LISTEN))
        assert network.swallow()
        began = time.monotonic()
        sent = app.send_task(tasks.add.name, (1, 2))
        print(f"a producer: {time.monotonic() - began:.1f} s")
        Path(files[1]).touch()
        waiting.join(10)
        assert got == ["released"]
        assert sent.get(timeout=10) == 3
        print(f"who waits: {time.monotonic() - began:.1f} s")
    finally:
        close_app(app)
