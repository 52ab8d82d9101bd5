"""A real worker's port: ready, not ready for each reason, ready again by itself; its metrics."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil
import pytest
from celery import Celery

from ..conftest import Connection
from ..control.test_metrics import samples, value
from ..docs.test_monitoring import asked, shown
from ..support.networks import Network
from ..support.waiting import wait_for
from . import probed
from .conftest import StartWorker, producing

LEASE = 3.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    with producing(probed.app, url) as app:
        yield app


@pytest.fixture
def conf() -> dict[str, Any]:
    return {
        "pgjobs_http_port": free_port(),
        "pgjobs_http_address": "127.0.0.1",
        "pgjobs_lease": LEASE,
        "pgjobs_heartbeat_interval": 0.3,
    }


def ask(conf: dict[str, Any], path: str) -> tuple[int, dict[str, Any]]:
    """The status and the answer of a probe; -1 without one."""
    try:
        with urlopen(f"http://127.0.0.1:{conf['pgjobs_http_port']}{path}", timeout=10) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())
    except (URLError, OSError):
        return -1, {}


def wait_ready(conf: dict[str, Any]) -> None:
    wait_for(lambda: ask(conf, "/ready")[0] == 200, message=lambda: ask(conf, "/ready"))


def wait_unready(conf: dict[str, Any], kind: str) -> None:
    """It says so, with this reason, and is alive all the same."""

    def kinds() -> list[str]:
        return [reason["kind"] for reason in ask(conf, "/ready")[1].get("reasons", [])]

    wait_for(lambda: kind in kinds(), message=kinds)
    assert ask(conf, "/ready")[0] in (200, 503)
    assert ask(conf, "/live")[0] == 200


def test_a_worker_is_ready_until_something_is_wrong_and_again(
    url: str, app: Celery, worker: StartWorker, connection: Connection, conf: dict[str, Any]
):
    with Network(url) as network:
        started = worker(app="tests.e2e.probed", conf=conf, broker=network.url, concurrency=1)
        wait_ready(conf)
        assert ask(conf, "/live") == (200, {"worker": started.name, "ok": True, "reasons": []})
        # The event loop is held up.
        app.control.broadcast("stall", arguments={"seconds": LEASE})
        wait_unready(conf, "event_loop")
        wait_ready(conf)
        # Its heartbeats do not come through, and all else does.
        with connection.transaction():
            connection.execute("SELECT FROM pgjobs.nodes FOR UPDATE")
            wait_unready(conf, "lease")
        wait_ready(conf)
        # The schema is behind.
        newest = connection.execute(
            "DELETE FROM pgjobs.migrations WHERE version ="
            " (SELECT max(version) FROM pgjobs.migrations) RETURNING *"
        ).fetchone()
        assert newest is not None
        try:
            wait_unready(conf, "schema")
        finally:
            names = ", ".join(newest)
            places = ", ".join(f"%({name})s" for name in newest)
            connection.execute(f"INSERT INTO pgjobs.migrations ({names}) VALUES ({places})", newest)
        wait_ready(conf)
        # The connection is cut.
        network.close()
        network.cut()
        wait_unready(conf, "database")
        network.open()
        wait_ready(conf)
        # A child that is forked late has no part in the port.
        # A command is lost that comes before the worker listens again, as with any broker.
        grow = partial(app.control.pool_grow, 1, destination=[started.name], reply=True)
        wait_for(lambda: grow(timeout=5))
        wait_for(lambda: len(started.children()) >= 2)
        for child in started.children():
            listening = [
                each.laddr.port
                for each in psutil.Process(child).net_connections("tcp")
                if each.status == psutil.CONN_LISTEN
            ]
            assert conf["pgjobs_http_port"] not in listening


def test_a_worker_without_a_port_listens_nowhere(worker: StartWorker):
    started = worker(app="tests.e2e.probed", pool="threads")
    assert "probes and metrics" not in started.log
    listening = psutil.Process(started.pid).net_connections("tcp")
    assert [each for each in listening if each.status == psutil.CONN_LISTEN] == []


def test_the_port_serves_what_the_worker_has_done(
    app: Celery, worker: StartWorker, connection: Connection, conf: dict[str, Any]
):
    first = worker(app="tests.e2e.probed", conf=conf, pool="threads")
    wait_ready(conf)
    second = worker(app="tests.e2e.probed", conf=conf, pool="threads")
    wait_for(lambda: "cannot be had, trying again" in second.log)
    assert app.tasks["tests.e2e.probed.add"].delay(1, 2).get(timeout=10) == 3
    with pytest.raises(ValueError, match="no"):
        app.tasks["tests.e2e.probed.fail"].delay().get(timeout=10)
    name = {"name": "tests.e2e.probed.add", "queue_name": "celery"}
    failed = {"name": "tests.e2e.probed.fail", "queue_name": "celery", "exception": "ValueError"}

    def read() -> str:
        place = f"http://127.0.0.1:{conf['pgjobs_http_port']}/metrics"
        with urlopen(place, timeout=10) as response:
            text: str = response.read().decode()
            return text

    def scrape() -> dict[Any, float]:
        return samples(read())

    wait_for(lambda: ("celery_task_failed_total", frozenset(failed.items())) in scrape())
    assert value(scrape(), "celery_task_succeeded_total", **name) == 1
    assert value(scrape(), "celery_worker_up", hostname=first.name) == 1
    assert value(scrape(), "celery_active_worker_count", queue_name="celery") == 2
    # The dashboard and the alerts of examples/monitoring find all that they ask for.
    assert asked() <= shown(read())
    # Another worker of the host takes the port over, and goes on counting.
    assert first.stop() == 0
    wait_ready(conf)
    assert ask(conf, "/ready")[1]["worker"] == second.name
    assert value(scrape(), "celery_task_succeeded_total", **name) == 1
    with pytest.raises(HTTPError) as missing:
        urlopen(f"http://127.0.0.1:{conf['pgjobs_http_port']}/nothing", timeout=10)
    assert (missing.value.code, missing.value.read()) == (404, b"/live /metrics /ready\n")
