"""A real ``celery worker``, started for one run and gone after it."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil  # type: ignore[import-untyped]

from benchmarks.errors import BenchmarkError, WrongOutcome
from benchmarks.processes import ROOT, cpu_seconds, kill_group, last_line, tree


@dataclass(frozen=True)
class Pool:
    """One of Celery's worker pools and its size."""

    name: str
    concurrency: int | None

    @property
    def flags(self) -> list[str]:
        size = [] if self.concurrency is None else ["-c", str(self.concurrency)]
        return ["-P", self.name, *size]

    def __str__(self) -> str:
        return self.name if self.concurrency is None else f"{self.name} -c {self.concurrency}"


PREFORK = Pool("prefork", 2)
THREADS = Pool("threads", 10)
SOLO = Pool("solo", None)


class Worker:
    """A worker that has reported itself ready."""

    def __init__(self, process: subprocess.Popen[Any], log: Path) -> None:
        self._process = process
        self._log = log
        #: Seconds since the epoch.
        self.ready_at = time.time()

    def processes(self) -> list[psutil.Process]:
        """The main process and its children."""
        return tree(self._process.pid)

    def cpu_seconds(self) -> float:
        """CPU of the main process and its children, dead ones included."""
        return cpu_seconds(self.processes())

    def ensure_alive(self) -> None:
        """Raise BenchmarkError with the log's last line if the worker has ended."""
        if self._process.poll() is not None:
            raise BenchmarkError(f"the worker died: {last_line(self._log.read_text())}")

    def stop(self, timeout: float = 30) -> None:
        """Ask for a warm shutdown, as a deployment would, and wait for it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise WrongOutcome(f"the worker did not stop within {timeout:.0f} s") from None


@contextlib.contextmanager
def running_worker(
    environment: Mapping[str, str],
    pool: Pool,
    folder: Path,
    timeout: float = 60,
    flags: Sequence[str] = (),
) -> Iterator[Worker]:
    """Start a worker with Celery's defaults, wait until it is ready, and kill it at the end."""
    log = folder / "worker.log"
    reader, writer = os.pipe()
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*worker_command(environment, pool), *flags],
                cwd=ROOT,
                env={**os.environ, **environment, "BENCH_READY_FD": str(writer)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writer],
                start_new_session=True,
            )
        os.close(writer)
        try:
            wait_until_ready(reader, log, timeout)
            yield Worker(process, log)
        finally:
            kill_group(process)
    finally:
        os.close(reader)


def worker_command(environment: Mapping[str, str], pool: Pool) -> list[str]:
    """The command line: the same for every broker of Celery's, and nothing switched off."""
    if program := environment.get("BENCH_PROGRAM"):
        return [sys.executable, "-m", *program.split(), "work"]
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.app", "worker", *pool.flags]
    return [
        *command,
        "-l",
        "WARNING",
        "-Q",
        environment["BENCH_QUEUE"],
        "-n",
        f"{uuid4().hex[:8]}@%h",
    ]


def wait_until_ready(reader: int, log: Path, timeout: float) -> None:
    """Return when the worker wrote into its pipe; a closed pipe means that it died."""
    readable, _, _ = select.select([reader], [], [], timeout)
    if not readable or not os.read(reader, 16):
        state = "died" if readable else f"was not ready after {timeout:.0f} s"
        raise BenchmarkError(f"the worker {state}: {last_line(log.read_text())}")
