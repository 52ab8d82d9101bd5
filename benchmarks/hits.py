"""Write down which task started when, cheaply, and check that each ran exactly once.

Each worker process appends 12 bytes per task to a file of its own: nothing is shared or locked.
"""

import os
import struct
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from benchmarks.errors import Unfinished, WrongOutcome

#: How often the harness looks, in seconds.
POLL = 0.02

RECORD = struct.Struct("<Id")


class Worker(Protocol):
    """A worker that can be asked whether it lives."""

    def ensure_alive(self) -> None: ...


_files: dict[int, int] = {}


def record(folder: str, index: int) -> None:
    """Note that task ``index`` starts now, in this process's file in ``folder``."""
    pid = os.getpid()
    file = _files.get(pid)
    if file is None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        file = _files[pid] = os.open(os.path.join(folder, f"hits-{pid}"), flags, 0o600)
    os.write(file, RECORD.pack(index, time.time()))


class Tally:
    """What the worker processes wrote into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def count(self) -> int:
        """How many tasks have started."""
        with os.scandir(self.folder) as files:
            sizes = sum(file.stat().st_size for file in files if file.name.startswith("hits-"))
        return sizes // RECORD.size

    def wait(self, count: int, patience: float, workers: Iterable[Worker]) -> None:
        """Return once so many have started.

        Raises Unfinished after ``patience`` seconds, and BenchmarkError if a worker has ended.
        """
        deadline = time.monotonic() + patience
        while (started := self.count()) < count:
            if time.monotonic() > deadline:
                raise Unfinished(f"{started:,} of {count:,} tasks in {patience:.0f} s")
            for each in workers:
                each.ensure_alive()
            time.sleep(POLL)

    def records(self) -> list[tuple[int, float]]:
        """Every start as (task index, seconds since the epoch)."""
        found: list[tuple[int, float]] = []
        for file in self.folder.glob("hits-*"):
            data = file.read_bytes()
            whole = len(data) - len(data) % RECORD.size
            found.extend(RECORD.iter_unpack(data[:whole]))
        return found

    def starts(self) -> dict[int, float]:
        """When each task started first."""
        starts: dict[int, float] = {}
        for index, at in self.records():
            starts[index] = min(at, starts.get(index, at))
        return starts

    def verify_distinct(self) -> None:
        """Raise WrongOutcome if a task ran more than once; others may not have run yet."""
        runs = Counter(index for index, _ in self.records())
        if repeated := sum(1 for times in runs.values() if times > 1):
            raise WrongOutcome(f"of {len(runs)} tasks {repeated} ran more than once")

    def verify(self, count: int) -> None:
        """Raise WrongOutcome unless each of ``range(count)`` ran exactly once."""
        runs = Counter(index for index, _ in self.records())
        missing = sum(1 for index in range(count) if index not in runs)
        repeated = sum(1 for times in runs.values() if times > 1)
        strange = sum(1 for index in runs if index >= count)
        if missing or repeated or strange:
            raise WrongOutcome(
                f"of {count} tasks {missing} never ran, {repeated} ran more than once"
                f" and {strange} were not sent by this run"
            )
