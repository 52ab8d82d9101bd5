"""Celery on PostgreSQL rows: this project."""

import contextlib
import os
import subprocess
import sys
from importlib.metadata import entry_points
from urllib.parse import quote, urlencode

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.errors import Unavailable
from benchmarks.processes import ROOT, cpu_seconds, last_line
from benchmarks.systems.base import System
from benchmarks.workers import Worker

#: A database of this name belongs to the harness, which creates it and truncates its jobs.
DATABASE = "pgjobs_bench"


class Pgjobs(System):
    """Broker and results on PostgreSQL rows."""

    name = "pgjobs"
    description = "this project, broker and results on PostgreSQL, defaults"

    def start(self) -> None:
        if not entry_points(group="celery.result_backends", name="pgjobs"):
            raise Unavailable("pgjobs-celery is not installed here: pip install -e .")
        dsn = os.environ.get("PGJOBS_BENCH_DSN", "postgresql://127.0.0.1/postgres")
        try:
            self._server = self.opened.enter_context(psycopg.connect(dsn, autocommit=True))
            known = self._server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if known.fetchone() is None:
                self._server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            own = make_conninfo(dsn, dbname=DATABASE)
            self._database = self.opened.enter_context(psycopg.connect(own, autocommit=True))
        except psycopg.Error as error:
            raise Unavailable(f"no PostgreSQL: {last_line(str(error))}") from error
        self.broker = self.backend = pgjobs_url(own)
        self.port = self._server.info.port
        self._migrate()
        self.clean("")

    def version(self) -> str:
        settings = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
        release, fsync, commit, buffers = (self._show(name) for name in settings)
        release = release.split()[0]
        return (
            f"PostgreSQL {release} (fsync {fsync}, synchronous_commit {commit},"
            f" shared_buffers {buffers})"
        )

    def clean(self, queue: str, reply_to: str = "") -> None:
        self._database.execute("TRUNCATE pgjobs.jobs")
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            self._database.execute("CHECKPOINT")

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

    def server_processes(self) -> list[psutil.Process]:
        """The postmaster first, then the processes it has now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._server.info.backend_pid).parent()
            if postmaster is not None and postmaster.name().startswith("postgres"):
                return [postmaster, *postmaster.children(recursive=True)]
        return []

    def server_cpu(self) -> float | None:
        """All of the server, exited backends and autovacuum too, less the harness's own two."""
        processes = self.server_processes()
        if not processes:
            return None
        own = {self._server.info.backend_pid, self._database.info.backend_pid}
        counted = [process for process in processes if process.pid not in own]
        return cpu_seconds(counted)

    def commands(self) -> int | None:
        """Transactions in the benchmark's database; asked from another one, so none is ours."""
        row = self._server.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s",
            [DATABASE],
        ).fetchone()
        return int(row[0]) if row else None

    def connections(self, worker: Worker) -> int:
        row = self._server.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend' AND pid <> %s",
            [DATABASE, self._database.info.backend_pid],
        ).fetchone()
        return int(row[0]) if row else 0

    def _migrate(self) -> None:
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

    def _show(self, setting: str) -> str:
        row = self._server.execute("SELECT current_setting(%s)", [setting]).fetchone()
        return str(row[0]) if row else "unknown"

    def _count(self, statement: str) -> int:
        row = self._database.execute(statement).fetchone()
        return int(row[0]) if row else 0


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
