"""Real ``celery worker`` processes, and the app and tasks they run (tasks.py)."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import psycopg.rows
import pytest
from celery import Celery

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.node.nodes import close_nodes

from ..conftest import Connection, close_app, empty_database
from ..support.celery_process import CeleryProcess
from ..support.ledgers import Ledger
from . import effects, pgtasks, tasks
from .rows import Rows

ROOT = Path(__file__).parents[2]

#: Seconds a worker may take to be ready, and to leave on SIGTERM.
START_LIMIT = 30.0
STOP_LIMIT = 20.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/e2e/"):  # the paths' parents take a second for all tests
            item.add_marker(pytest.mark.e2e)


class Worker:
    """A running ``celery worker``; every attribute of the process is open to the test."""

    def __init__(self, name: str, process: CeleryProcess, log: Path) -> None:
        self.name = name
        self.process = process
        self.pid = process.pid
        self._log = log
        #: All of its processes have ended.
        self._is_gone = False

    @property
    def log(self) -> str:
        """All that the worker has printed so far."""
        return self._log.read_text(errors="replace")

    def children(self) -> list[int]:
        """The process ids of the pool's children."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def send(self, number: int) -> None:
        """Send a signal to the worker's main process."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """``kill -9`` the worker with all its children, as a crash of the machine would."""
        if self._is_gone:
            return  # by now the number may be that of a server's session
        if self.process.poll() is None or self._has_left_children():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self._is_gone = True

    def _has_left_children(self) -> bool:
        python = os.path.realpath(sys.executable)
        for each in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if os.getpgid(each.pid) == self.pid and os.path.realpath(each.exe()) == python:
                    return True
        return False

    def stop(self, number: int = signal.SIGTERM, timeout: float = STOP_LIMIT) -> int:
        """Ask the worker to leave, wait until it has, and return its exit code.

        Fails the test, after killing it, when it stays for longer than ``timeout`` seconds.
        """
        if self.process.poll() is None:
            self.send(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not leave on signal {number} within {timeout} s")
        finally:
            # Children that outlive their worker would hold on to the database.
            self.kill()
            self.process.dismiss_guard()


StartWorker = Callable[..., Worker]


@pytest.fixture
def worker(url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """A factory of workers on the test's database; each is ready when the call returns.

    ``worker(pool="threads", concurrency=10, queues=["mail"], conf={"task_acks_late": True})``.
    At the end each must leave on SIGTERM. What they printed is shown when the test fails.
    """
    with running_workers(url, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def module_url(database_url: str) -> str:
    """As ``url``, emptied once for all tests of a module: for those that share a worker."""
    empty_database(database_url)
    return database_url


@pytest.fixture(scope="module")
def module_worker(
    module_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartWorker]:
    """As ``worker``, for the tests of a module; they tell their jobs apart by id."""
    with running_workers(module_url, tmp_path_factory.mktemp("workers")) as start:
        yield start


@contextmanager
def running_workers(
    url: str, folder: Path, show: Callable[[str], Any] = print
) -> Iterator[StartWorker]:
    """A factory of workers that are stopped, and must leave, when the block ends.

    ``show`` gets what they have printed.
    """
    workers: list[Worker] = []

    def start(
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        queues: Sequence[str] = (),
        args: Sequence[str] = (),
        conf: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        broker: str | None = None,
        app: str = "tests.e2e.tasks",
        wait: bool = True,
        mingle: bool = False,
    ) -> Worker:
        name = f"worker{len(workers) + 1}-{uuid4().hex[:6]}@test"
        log = folder / f"{name}.log"
        arguments = [
            *("-A", app, "worker"),
            *("--loglevel", "INFO"),
            *("--pool", pool, "--concurrency", str(concurrency), "--hostname", name),
            *(("--queues", ",".join(queues)) if queues else ()),
            # To look for others takes each worker a second.
            *(() if mingle else ("--without-mingle", "--without-gossip")),
            *args,
        ]
        ready, told = os.pipe()
        with log.open("wb") as output:
            process = CeleryProcess(
                arguments,
                cwd=ROOT,
                env={
                    **os.environ,
                    "PGJOBS_TEST_URL": broker or url,
                    "PGJOBS_TEST_CONF": json.dumps(dict(conf or {})),
                    "PGJOBS_TEST_READY": str(told),
                    "PYTHONUNBUFFERED": "1",
                    **(env or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[told],
            )
        os.close(told)
        started = Worker(name, process, log)
        workers.append(started)
        try:
            if wait:
                _wait_until_ready(started, ready)
        finally:
            os.close(ready)
        return started

    try:
        yield start
    finally:
        failures = []
        for started in workers:
            if started.process.poll() is None:
                started.send(signal.SIGTERM)
        for started in workers:
            try:
                started.stop(0)  # asked already
            except pytest.fail.Exception as error:
                failures.append(str(error))
            show(f"---- {started.name}, exit code {started.process.returncode}\n{started.log}")
    if failures:
        pytest.fail("\n".join(failures))


def _wait_until_ready(worker: Worker, ready: int) -> None:
    """Wait for the worker's own word; its death closes the pipe and is noticed at once."""
    readable, _, _ = select.select([ready], [], [], START_LIMIT)
    if not readable:
        pytest.fail(f"{worker.name} is not ready after {START_LIMIT} s:\n{worker.log}")
    if not os.read(ready, 16):
        code = worker.process.wait()
        pytest.fail(f"{worker.name} ended with exit code {code}:\n{worker.log}")


@contextmanager
def producing(app: Celery, url: str) -> Iterator[Celery]:
    """A workers' app, here as the producer."""
    # The end of another app may have closed its pools.
    app._pool = app.amqp._producer_pool = None
    app.conf.update(broker_url=url, result_backend=url)
    try:
        yield app
    finally:
        close_app(app)


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """The workers' app, here as the producer."""
    with producing(tasks.app, url) as app:
        yield app


@pytest.fixture
def pgtask_app(url: str) -> Iterator[Celery]:
    """The app whose every task is a PgTask, here as the producer."""
    with producing(pgtasks.app, url) as app:
        yield app


@pytest.fixture(scope="module")
def effects_app(module_url: str) -> Iterator[Celery]:
    """The app whose tasks complete in their own transactions, for the tests of a module."""
    with producing(effects.app, module_url) as app:
        yield app
    close_nodes()


@pytest.fixture
def ledger(connection: Connection) -> Ledger:
    """What those tasks have written and published."""
    return Ledger(connection)


@pytest.fixture
def rows(connection: Connection) -> Rows:
    """The jobs as they stand in the database."""
    return Rows(connection)


@pytest.fixture
def fresh_rows(url: str) -> Iterator[Any]:
    """Rows over a connection that can be opened again after a restart."""
    connections: list[psycopg.Connection[Any]] = []

    def connect() -> Rows:
        connection = psycopg.connect(
            parse_url(url), autocommit=True, row_factory=psycopg.rows.dict_row
        )
        connections.append(connection)
        return Rows(connection)

    yield connect
    for connection in connections:
        connection.close()
