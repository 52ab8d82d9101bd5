"""What a job costs the database that it shares with others: log, flushes, writes, room."""

import time

from benchmarks.errors import Unfinished, WrongOutcome
from benchmarks.hits import Tally
from benchmarks.measures.base import ON_POSTGRESQL, Measure, Metric, Run, wait_for_messages
from benchmarks.processes import run_producer
from benchmarks.systems.postgres import Postgres
from benchmarks.workers import PREFORK, running_worker

POLL = 0.05

#: Seconds for processes that have ended to have reported what they did.
REPORTED = 0.5

#: What is counted, how a table says it, and its decimal places.
COUNTED = {
    "wal": ("WAL, bytes per job", 0),
    "transactions": ("transactions per job", 2),
    "flushes": ("flushes of the WAL per job", 2),
    "rows": ("rows written per job", 2),
    "server": ("server CPU, ms per 1,000 jobs", 0),
}


class Price(Measure):
    """Jobs are published one by one, then a worker runs them; the server's own counters tell."""

    name = "price"
    title = f"Price of a job for the database: published one by one, {PREFORK}, results ignored"
    metrics = (
        *(
            Metric(f"{key}_{half}", f"{half}: {label}", "less", digits)
            for half in ("publish", "work")
            for key, (label, digits) in COUNTED.items()
        ),
        Metric("waiting", "bytes on disk per job that waits", "less"),
        Metric("kept", "bytes on disk per job that has ended", "less"),
    )
    systems = ON_POSTGRESQL
    is_core = True

    def run(self, run: Run) -> dict[str, float]:
        system, count = run.system, run.scale.enqueued
        assert isinstance(system, Postgres)
        environment = run.environment(results=False)
        run_producer(environment, "enqueue", "10")  # queues are declared, tables made
        system.clean(run.queue)
        empty = system.kept_bytes()

        begin = Spent(system)
        run_producer(environment, "enqueue", str(count))
        published = Spent(system)
        found = wait_for_messages(run, count)
        if found != count:
            raise WrongOutcome(f"{count} tasks published, {found} are in the database")
        waiting = system.kept_bytes()

        begin_work = Spent(system)
        with running_worker(environment, PREFORK, run.folder) as worker:
            deadline = time.monotonic() + run.scale.patience
            tally = Tally(run.folder)  # asked first: it costs no transaction
            while tally.count() < count or system.unsettled(run.queue):
                if time.monotonic() > deadline:
                    raise Unfinished(f"{tally.count():,} of {count:,} tasks in time")
                worker.ensure_alive()
                time.sleep(POLL)
            worker.stop()
        tally.verify(count)
        ended = Spent(system)
        return {
            **published.since(begin, "publish", count),
            **ended.since(begin_work, "work", count),
            "waiting": (waiting - empty) / count,
            "kept": (system.kept_bytes() - empty) / count,
        }


class Spent:
    """The server's counters and CPU at one moment, when those who have ended have reported."""

    def __init__(self, system: Postgres) -> None:
        time.sleep(REPORTED)
        self.counters = system.counters()
        self.cpu = system.server_cpu()

    def since(self, before: "Spent", suffix: str, count: int) -> dict[str, float]:
        """What was spent meanwhile, for each of ``count`` jobs."""
        spent = {key: n / count for key, n in self.counters.since(before.counters).items()}
        if self.cpu is not None and before.cpu is not None:
            spent["server"] = (self.cpu - before.cpu) / count * 1e6
        return {f"{key}_{suffix}": value for key, value in spent.items()}
