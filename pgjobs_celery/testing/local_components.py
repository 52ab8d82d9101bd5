"""pytest-celery's components for pgjobs without Docker: a local server, and workers as processes.

- Features: broker, result backend, worker; logs, kill and restart of each as of any node.
- Load it: ``pytest_plugins = ["pgjobs_celery.testing.local_components"]``. Then pytest-celery's
  ``celery_setup`` runs on it, because ``celery_broker``, ``celery_backend`` and ``celery_worker``
  are replaced; to have it beside others, override these with ``params`` of your own.
- Fixtures: ``celery_pgjobs_local_broker``, ``celery_pgjobs_local_backend``,
  ``celery_pgjobs_local_worker``.
- The workers are configured as with Docker: ``default_worker_tasks``, ``default_worker_signals``,
  ``default_worker_app``, ``default_worker_env``, ``default_worker_command``.

The server is the one that PGJOBS_TEST_DSN names, or an embedded one.
"""

from __future__ import annotations

import os
import shlex
import signal as signals
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestWorker

from ..errors import PgJobsError
from ..scopes.steady import monotonic
from .fixtures.servers import open_database, open_server

#: The names of the fixtures, for ``params``.
CELERY_PGJOBS_LOCAL_BROKER = "celery_pgjobs_local_broker"
CELERY_PGJOBS_LOCAL_BACKEND = "celery_pgjobs_local_backend"
CELERY_PGJOBS_LOCAL_WORKER = "celery_pgjobs_local_worker"

#: Seconds until a worker is ready, and until one that is told to leave has left.
READY_TIMEOUT, STOP_TIMEOUT = 30, 15
#: How often a worker's log is looked at, in seconds.
LOOK_INTERVAL = 0.05


class LocalDatabase:
    """A database on a local server, to a node what a container is."""

    status = "running"

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self.url = url
        self.name = self._parts.path.lstrip("/")
        self.id = self.name

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """The settings for broker and backend."""
        return {
            "url": self.url,
            "host_url": self.url,
            "hostname": self._parts.hostname or "localhost",
            "port": self._parts.port or 5432,
            "vhost": self.name,
        }

    def ready(self) -> bool:
        return True

    def logs(self) -> str:
        """Nothing: the server's log is not this database's."""
        return ""

    def reload(self) -> None:
        """As a container's: nothing changes here."""

    def teardown(self) -> None:
        """It goes with its fixture."""

    def kill(self, signal: str | int = "SIGKILL") -> None:
        raise PgJobsError(f"the server is not only this test's: {self.name} cannot be killed")

    def restart(self, timeout: int = 0) -> None:
        raise PgJobsError(f"the server is not only this test's: {self.name} cannot be restarted")


class LocalWorkerProcess:
    """A worker's process in a folder, to a node what a container is."""

    def __init__(self, folder: Path, command: list[str], env: Mapping[str, str], like: Any) -> None:
        self.id = uuid4().hex
        self.name = f"{like.worker_name()}@{self.id[:12]}"
        self._folder = folder
        # A container's host name is its id; this has the machine's.
        self._command = [word.replace("%h", self.id[:12]) for word in command]
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._env = {**os.environ, **env, "PYTHONPATH": path}
        self._like = like
        self._log = folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __getattr__(self, name: str) -> Any:
        # Attributes of its workers' class: version, log_level, worker_name, worker_queue.
        return getattr(self._like, name)

    @property
    def status(self) -> str:
        return "running" if self._process and self._process.poll() is None else "exited"

    @property
    def pid(self) -> int | None:
        """Its process, the last one that was started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the worker; its log begins anew."""
        program, *words = self._command
        run = [sys.executable, "-m", program] if program == "celery" else [program]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*run, *words],
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> bool:
        """Wait until the worker consumes. Raises PgJobsError if it leaves before, or does not."""
        end = monotonic() + READY_TIMEOUT
        while not self._is_ready():
            if monotonic() > end:
                raise PgJobsError(
                    f"worker {self.name} is not ready after {READY_TIMEOUT} s:\n{self.logs()}"
                )
            time.sleep(LOOK_INTERVAL)
        return True

    def _is_ready(self) -> bool:
        if self.status != "running":
            raise PgJobsError(f"worker {self.name} has left before it was ready:\n{self.logs()}")
        return f"{self.name} ready." in self.logs()

    def logs(self) -> str:
        """Its output since it was started."""
        return self._log.read_text(errors="replace")

    def exec_run(self, command: str) -> tuple[int, bytes]:
        """Run a command where the worker runs; its exit code and output."""
        done = subprocess.run(
            shlex.split(command), cwd=self._folder, env=self._env, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def reload(self) -> None:
        """As a container's; nothing is cached here."""

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Send the worker, and with SIGKILL its children, a signal; wait until it has left."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal)
        if number is signals.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(STOP_TIMEOUT)

    def restart(self, timeout: int = STOP_TIMEOUT) -> None:
        """Stop the worker, and start it again."""
        self.teardown()
        self.start()

    def teardown(self) -> None:
        """Stop the worker."""
        try:
            self.kill("SIGTERM")
        except subprocess.TimeoutExpired:
            self.kill("SIGKILL")


class LocalBroker(CeleryTestBroker):
    """The broker node of a test, on a local server."""


class LocalBackend(CeleryTestBackend):
    """The backend node of a test, on a local server."""


class LocalWorker(CeleryTestWorker):
    """The worker node of a test, a process."""

    def restart(self, reload_container: bool = True, force: bool = False) -> None:
        """Restart the process, and wait until it consumes."""
        super().restart(reload_container, force)
        self.ready()


@pytest.fixture(scope="session")
def pgjobs_local_server() -> Iterator[str]:
    """The URL of a server; override it for one of your own, where databases may be created."""
    with open_server() as url:
        yield url


@pytest.fixture
def pgjobs_local_database(pgjobs_local_server: str) -> Iterator[LocalDatabase]:
    """A migrated database for one test, broker and backend at once."""
    with open_database(pgjobs_local_server) as url:
        yield LocalDatabase(url)


@pytest.fixture
def celery_pgjobs_local_broker(pgjobs_local_database: LocalDatabase) -> Iterator[LocalBroker]:
    """The database as broker."""
    broker = LocalBroker(pgjobs_local_database)
    yield broker
    broker.teardown()


@pytest.fixture
def celery_pgjobs_local_backend(pgjobs_local_database: LocalDatabase) -> Iterator[LocalBackend]:
    """The database as result backend."""
    backend = LocalBackend(pgjobs_local_database)
    yield backend
    backend.teardown()


@pytest.fixture
def celery_pgjobs_local_worker(
    tmp_path: Path,
    default_worker_container_cls: Any,
    default_worker_initial_content: Mapping[str, bytes],
    default_worker_command: list[str],
    default_worker_env: Mapping[str, str],
    default_worker_app: Any,
) -> Iterator[LocalWorker]:
    """A worker that runs the tasks of pytest-celery's fixtures."""
    folder = tmp_path / "worker"
    for name, text in default_worker_initial_content.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
    process = LocalWorkerProcess(
        folder, default_worker_command, default_worker_env, default_worker_container_cls
    )
    worker = LocalWorker(process, default_worker_app)
    try:
        worker.ready()
        yield worker
    finally:
        worker.teardown()


@pytest.fixture
def celery_broker(celery_pgjobs_local_broker: LocalBroker) -> LocalBroker:
    """pytest-celery's, with this one broker."""
    return celery_pgjobs_local_broker


@pytest.fixture
def celery_backend(celery_pgjobs_local_backend: LocalBackend) -> LocalBackend:
    """pytest-celery's, with this one backend."""
    return celery_pgjobs_local_backend


@pytest.fixture
def celery_worker(celery_pgjobs_local_worker: LocalWorker) -> LocalWorker:
    """pytest-celery's, with this one worker."""
    return celery_pgjobs_local_worker
