"""Celery on PostgreSQL rows: this project."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

from benchmarks.errors import Unavailable
from benchmarks.processes import ROOT, last_line
from benchmarks.systems.postgres import Postgres, libpq_url

#: Connections of the server that are not for workers, and those of each worker.
SPARE, EACH = 10, 3


class Pgjobs(Postgres):
    """Broker and results on PostgreSQL rows."""

    name = "pgjobs"
    description = "this project, broker and results on PostgreSQL, defaults"
    database = "pgjobs_bench"

    def start(self) -> None:
        if not entry_points(group="celery.result_backends", name="pgjobs"):
            raise Unavailable("pgjobs-celery is not installed here: pip install -e .")
        super().start()

    def prepare(self, is_new: bool) -> None:
        self.broker = self.backend = libpq_url("pgjobs", self.conninfo)
        if not is_new:
            # Another checkout may have made it, by migrations that were not released yet.
            self._database.execute("DROP SCHEMA IF EXISTS pgjobs CASCADE")
        environment = self.environment("benchmarks", "", results=True)
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.app", "pgjobs", "migrate"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise Unavailable(f"celery pgjobs migrate failed: {last_line(done.stderr)}")

    def broker_by(self, port: int) -> str:
        return libpq_url("pgjobs", self.address(port))

    def empty(self) -> None:
        self._database.execute("TRUNCATE pgjobs.jobs")

    def fill(self, rows: int) -> None:
        """Put jobs with unique keys there, every other one finished."""
        self._database.execute(
            """
            INSERT INTO pgjobs.jobs
              (task_id, task, queue, state, finished_at, message, body, unique_key)
            SELECT md5(n::text), 'unique', 'filled', CASE WHEN n %% 2 = 0 THEN 'completed'
                   ELSE 'available' END, CASE WHEN n %% 2 = 0 THEN now() END, '{}', '[]',
                   sha256(n::text::bytea)
            FROM generate_series(1, %s) AS n
            """,
            [rows],
        )
        self._database.execute("VACUUM ANALYZE pgjobs.jobs")

    def most_workers(self) -> int:
        return (int(self._show("max_connections")) - SPARE) // EACH

    def rows(self) -> int:
        """How many there are."""
        return self._count("SELECT count(*) FROM pgjobs.jobs")

    def distinct(self) -> int:
        return self._count("SELECT count(DISTINCT body) FROM pgjobs.jobs")

    def unsettled(self, queue: str) -> int:
        return self._count("SELECT count(*) FROM pgjobs.jobs WHERE finished_at IS NULL")

    def stored_results(self, reply_to: str) -> int:
        return self._count("SELECT count(*) FROM pgjobs.jobs WHERE finished_at IS NOT NULL")


class PgjobsRelaxed(Pgjobs):
    """A crash of the server may lose what was published in the last 0.6 seconds."""

    name = "pgjobs-relaxed"
    description = (
        "the same with the queue in `relaxed_queues`: publishing does not wait for the disk"
    )
    database = "pgjobs_bench_relaxed"

    def version(self) -> str:
        return f"{super().version()}, publishing relaxed"

    def environment(self, queue: str, hits: str, results: bool) -> dict[str, str]:
        options = {**self.transport_options, "relaxed_queues": [queue]}
        environment = super().environment(queue, hits, results)
        return {**environment, "BENCH_TRANSPORT_OPTIONS": json.dumps(options)}
