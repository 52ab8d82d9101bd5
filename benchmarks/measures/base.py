"""What a measure is: a name, metrics, the systems it is for, and one run of one system."""

import contextlib
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from benchmarks.systems import SYSTEMS, System

#: What measures are about: the subject and the two brokers that most people use.
PEERS = frozenset({"pgjobs", "redis", "rabbitmq"})
#: PostgreSQL queues that are not Celery.
QUEUES = frozenset({"procrastinate", "pgqueuer", "chancy", "oban"})
#: All that Celery can work with.
BROKERS = frozenset(SYSTEMS) - QUEUES
#: All that keep their jobs in PostgreSQL.
ON_POSTGRESQL = frozenset({"pgjobs", "sqla", "pgmq"}) | QUEUES


@dataclass(frozen=True)
class Metric:
    """One number of a measure, as a table's row shows it."""

    key: str
    label: str
    better: Literal["more", "less"]
    digits: int = 0


@dataclass(frozen=True)
class Scale:
    """How much of everything; ``quick`` is for trying the harness, not for numbers to publish."""

    tasks: int = 5_000
    enqueued: int = 3_000
    #: Tasks that are published together, by each process.
    published: int = 30_000
    samples: int = 300
    header: int = 1_000
    chords: int = 200
    later: int = 20_000
    now: int = 1_000
    idle_seconds: float = 20
    #: Backlogs are divided by this.
    shrink: int = 1
    #: Tasks that give the rate over a backlog, at most.
    first: int = 2_000
    #: Calls of delay() for each latency of the network.
    remote: int = 300
    #: Rows that are in the table already, finished and waiting, each with a unique key.
    rows: int = 1_000_000
    #: Seconds after which a drain, or the ETA tasks, count as unfinished.
    patience: float = 120

    @classmethod
    def quick(cls) -> "Scale":
        return cls(
            tasks=1_000,
            enqueued=500,
            published=5_000,
            samples=100,
            header=200,
            chords=20,
            later=4_000,
            now=200,
            idle_seconds=6,
            shrink=10,
            first=500,
            remote=50,
            rows=20_000,
            patience=30,
        )


@dataclass
class Run:
    """The surroundings of one run: a queue of its own and an empty folder."""

    system: System
    scale: Scale
    queue: str
    folder: Path
    #: The queue of rpc:// results, once the producer has named it.
    reply_to: str = ""

    def environment(self, results: bool) -> dict[str, str]:
        return self.system.environment(self.queue, str(self.folder), results)


class Measure(ABC):
    """A kind of measurement; each instance is a table."""

    #: The word for ``--only``; several tables may share it.
    name: str
    title: str
    metrics: tuple[Metric, ...]
    systems: frozenset[str]
    #: Whether a run without ``--full`` has it.
    is_core: bool = False
    #: How many rounds it takes part in, however many there are.
    most_rounds: int = 1_000

    @abstractmethod
    def run(self, run: Run) -> dict[str, float]:
        """Measure once and return a number per metric that could be taken.

        Others may stand beside them, for the plots: they are kept, and not in the tables.
        """


@contextlib.contextmanager
def prepared(system: System, scale: Scale) -> Iterator[Run]:
    """An empty broker, queue and folder before the run, and nothing left after it."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        run = Run(system, scale, f"bench-{uuid4().hex[:12]}", Path(folder))
        system.clean(run.queue)
        try:
            yield run
        finally:
            system.clean(run.queue, run.reply_to)


def wait_for_messages(run: Run, count: int, timeout: float = 10) -> int:
    """The broker's count of messages once it reaches ``count``, or after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while (found := run.system.unsettled(run.queue)) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
