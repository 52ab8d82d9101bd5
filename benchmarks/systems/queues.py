"""PostgreSQL queues that are not Celery: their own programs, ten asyncio tasks in one process."""

import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import ClassVar

from psycopg import sql

from benchmarks.errors import BenchmarkError, Unavailable
from benchmarks.processes import run_producer
from benchmarks.systems.postgres import Postgres, libpq_url
from benchmarks.systems.redis import Redis, ask


class QueueSystem(Postgres):
    """One of the programs in benchmarks/queues, on a database of its own."""

    #: The module in benchmarks/queues, and the package that it needs.
    module: ClassVar[str]
    #: The table of its jobs, and which of them are not finished.
    table: ClassVar[str]
    unfinished: ClassVar[str]
    #: The oldest Python that the package takes.
    python: ClassVar[tuple[int, int]] = (3, 10)

    def start(self) -> None:
        if sys.version_info < self.python:
            raise Unavailable(f"{self.module} needs Python {'.'.join(map(str, self.python))}")
        if find_spec(self.module) is None:
            raise Unavailable(f"{self.module} is not installed: pip install -e '.[bench]'")
        super().start()

    def prepare(self, is_new: bool) -> None:
        self.program = f"benchmarks.queues {self.module}"
        if self._count(f"SELECT count(to_regclass('{self.table}'))"):
            return
        try:
            run_producer(self.environment("", "", results=False), "install", timeout=120)
        except BenchmarkError as error:
            raise Unavailable(f"its schema cannot be made: {error}") from error

    def version(self) -> str:
        return f"{self.module} {version(self.module)}, {super().version()}"

    def empty(self) -> None:
        self._database.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.Identifier(self.table)))

    def unsettled(self, queue: str) -> int:
        return self._count(f"SELECT count(*) FROM {self.table} WHERE {self.unfinished}")

    def environment(self, queue: str, hits: str, results: bool) -> dict[str, str]:
        return {
            "BENCH_PROGRAM": self.program,
            "BENCH_DSN": libpq_url("postgresql", self.conninfo),
            "BENCH_QUEUE": queue,
            "BENCH_HITS": hits,
        }


class Procrastinate(QueueSystem):
    name = module = "procrastinate"
    description = "procrastinate, not Celery: psycopg, one process, 10 asyncio tasks at a time"
    database = "pgjobs_bench_procrastinate"
    table = "procrastinate_jobs"
    unfinished = "status IN ('todo', 'doing')"


class Pgqueuer(QueueSystem):
    name = module = "pgqueuer"
    description = "pgqueuer, not Celery: asyncpg, one process, batches of 10 (its default)"
    database = "pgjobs_bench_pgqueuer"
    table = "pgqueuer"
    unfinished = "true"

    def empty(self) -> None:
        super().empty()
        self._database.execute("TRUNCATE pgqueuer_log, pgqueuer_statistics")


class Chancy(QueueSystem):
    name = module = "chancy"
    description = "chancy, not Celery: psycopg, one process, 10 asyncio tasks at a time"
    database = "pgjobs_bench_chancy"
    table = "chancy_jobs"
    unfinished = "state IN ('pending', 'running', 'retrying')"
    python = (3, 11)


class Oban(QueueSystem):
    name = "oban"
    module = "oban"
    description = "oban (Python), not Celery: psycopg, one process, 10 asyncio tasks at a time"
    database = "pgjobs_bench_oban"
    table = "oban_jobs"
    unfinished = "state IN ('available', 'executing', 'scheduled', 'retryable', 'suspended')"
    python = (3, 12)


class Arq(Redis):
    """Another program on the server that Celery's Redis is measured on."""

    name = "arq"
    description = "arq, not Celery: Redis, one process, asyncio tasks"

    def start(self) -> None:
        if find_spec("arq") is None:
            raise Unavailable(
                "arq is not installed: it takes an older redis-py than kombu 5.7 does, so that a "
                "run has arq (pip install arq) or Celery on Redis"
            )
        super().start()

    def version(self) -> str:
        return f"arq {version('arq')}, {super().version()}"

    def unsettled(self, queue: str) -> int:
        return ask(self._broker, "ZCARD", queue)

    def environment(self, queue: str, hits: str, results: bool) -> dict[str, str]:
        return {
            "BENCH_PROGRAM": "benchmarks.queues arq",
            "BENCH_DSN": self.broker,
            "BENCH_QUEUE": queue,
            "BENCH_HITS": hits,
        }
