"""Programs that ask the broker how long its queues are, as celery-exporter and the like do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from celery import Celery

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows


@contextmanager
def running_exporter(url: str, log: Path, *queues: str) -> Iterator[str]:
    """celery-prometheus-exporter; where its metrics are."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    command = [sys.executable, "-m", "celery_prometheus_exporter", "--broker", url]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--addr", address, "--queue-list", *queues],
            env=dict(os.environ),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://{address}/metrics"
    finally:
        process.kill()
        process.wait(10)
        print(log.read_text())


def metrics(address: str) -> dict[str, float]:
    """The metrics that are there by now."""
    try:
        with urlopen(address, timeout=5) as response:
            lines = response.read().decode().splitlines()
    except URLError:
        return {}  # it does not listen yet
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_what_waits_and_who_consumes_is_counted(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(concurrency=1)
    release = tmp_path / "release"
    running = tasks.hold.delay(str(tmp_path / "started"), str(release))
    wait_for((tmp_path / "started").exists)
    waiting = [tasks.add.delay(1, 2) for _ in range(3)]
    tasks.add.apply_async((1, 2), countdown=60)
    with app.connection() as connection:
        declare = connection.default_channel.queue_declare
        # What runs, or has to wait for its time, is not in the queue.
        assert declare("celery", passive=True) == ("celery", 3, 1)
        app.control.cancel_consumer("celery", destination=[started.name], reply=True, timeout=10)
        wait_for(lambda: declare("celery", passive=True) == ("celery", 3, 0))
        app.control.add_consumer("celery", destination=[started.name], reply=True, timeout=10)
        release.touch()
        assert [result.get(timeout=10) for result in [running, *waiting]] == ["released", 3, 3, 3]
        wait_for(lambda: declare("celery", passive=True) == ("celery", 0, 1))
        started.stop()
        assert declare("celery", passive=True) == ("celery", 0, 0)


def test_an_exporter_tells_prometheus(
    worker: StartWorker, app: Celery, rows: Rows, url: str, tmp_path: Path
) -> None:
    pytest.importorskip("celery_prometheus_exporter")
    worker(pool="solo", args=["--task-events"])
    for _ in range(3):
        tasks.add.apply_async((1, 2), queue="later")
    log = tmp_path / "log"
    with running_exporter(url, log, "later", "other") as address:
        length = 'celery_queue_length{queue_name="%s"}'
        wait_for(lambda: metrics(address).get(length % "later") == 3)
        wait_for(lambda: metrics(address).get(length % "other") == 0)
        wait_for(lambda: "mixins:INFO: Connected to" in log.read_text())
        failed = 'celery_tasks_by_name{name="tests.e2e.tasks.fail",state="FAILURE"}'
        # Its consumer says so just before it listens.
        wait_for(lambda: tasks.fail.delay() and metrics(address).get(failed))
        assert "Queue Not Found: other" in log.read_text()
        assert "Traceback" not in log.read_text()
