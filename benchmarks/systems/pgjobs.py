"""Celery on PostgreSQL rows: this project."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

from benchmarks.errors import Unavailable
from benchmarks.processes import ROOT, last_line
from benchmarks.systems.postgres import Postgres


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
        self.broker = self.backend = pgjobs_url(self.conninfo)
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
        return pgjobs_url(self.address(port))

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

    def rows(self) -> int:
        """How many there are."""
        return self._count("SELECT count(*) FROM pgjobs.jobs")

    def distinct(self) -> int:
        return self._count("SELECT count(DISTINCT body) FROM pgjobs.jobs")

    def unsettled(self, queue: str) -> int:
        return self._count("SELECT count(*) FROM pgjobs.jobs WHERE finished_at IS NULL")

    def stored_results(self, reply_to: str) -> int:
        return self._count("SELECT count(*) FROM pgjobs.jobs WHERE finished_at IS NOT NULL")


def pgjobs_url(conninfo: str) -> str:
    """The connection as ``pgjobs://user:password@/dbname?host=...``, which libpq understands.

    Hosts stand in the query, so that sockets and lists of hosts need no case of their own.
    """
    options = {key: str(value) for key, value in conninfo_to_dict(conninfo).items()}
    database = options.pop("dbname")
    user = quote(options.pop("user", ""), safe="")
    password = options.pop("password", "")
    login = f"{user}:{quote(password, safe='')}@" if password else f"{user}@" if user else ""
    return f"pgjobs://{login}/{quote(database, safe='')}?{urlencode(options, quote_via=quote)}"
