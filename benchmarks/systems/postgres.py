"""A system whose rows are in PostgreSQL: its database, what it costs the server, and rest."""

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.errors import Unavailable
from benchmarks.processes import cpu_seconds, last_line
from benchmarks.systems.base import System
from benchmarks.workers import Worker

#: For how long the harness waits for autovacuum to finish, in seconds.
PATIENCE = 30.0


@dataclass(frozen=True)
class Counters:
    """What the server has done so far in one database; the difference of two is a price."""

    wal_bytes: int
    #: Flushes of the log to disk; None where the release has no such count (18 and later).
    flushes: int | None
    transactions: int
    rows_written: int

    def since(self, before: "Counters") -> dict[str, float]:
        found: dict[str, float] = {
            "wal": self.wal_bytes - before.wal_bytes,
            "transactions": self.transactions - before.transactions,
            "rows": self.rows_written - before.rows_written,
        }
        if self.flushes is not None and before.flushes is not None:
            found["flushes"] = self.flushes - before.flushes
        return found


class Postgres(System):
    """A database that belongs to the harness, on the server at PGJOBS_BENCH_DSN."""

    #: The harness creates it and empties it.
    database: ClassVar[str]

    def start(self) -> None:
        dsn = os.environ.get("PGJOBS_BENCH_DSN", "postgresql://127.0.0.1/postgres")
        try:
            self._server = self.opened.enter_context(psycopg.connect(dsn, autocommit=True))
            known = self._server.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [self.database]
            )
            is_new = known.fetchone() is None
            if is_new:
                name = sql.Identifier(self.database)
                self._server.execute(sql.SQL("CREATE DATABASE {}").format(name))
            self.conninfo = make_conninfo(dsn, dbname=self.database)
            self._database = self.opened.enter_context(
                psycopg.connect(self.conninfo, autocommit=True)
            )
        except psycopg.Error as error:
            raise Unavailable(f"no PostgreSQL: {last_line(str(error))}") from error
        self.port = self._server.info.port
        self.prepare(is_new)
        self.clean("")

    def prepare(self, is_new: bool) -> None:
        """Put the schema there, and say how the system is reached."""
        raise NotImplementedError

    def empty(self) -> None:
        """Remove all rows."""
        raise NotImplementedError

    def version(self) -> str:
        release = self._show("server_version").split()[0]
        names = ("fsync", "synchronous_commit", "autovacuum", "shared_buffers")
        settings = ", ".join(f"{name} {self._show(name)}" for name in names)
        return f"PostgreSQL {release} ({settings})"

    def clean(self, queue: str, reply_to: str = "") -> None:
        self.empty()
        self.settle()

    def settle(self) -> None:
        """Have the server write what it still has to, and wait for autovacuum to finish."""
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            self._database.execute("CHECKPOINT")
        deadline = time.monotonic() + PATIENCE
        statement = """
            SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'autovacuum worker' AND datname = current_database()
            """
        while self._count(statement) and time.monotonic() < deadline:
            time.sleep(0.1)

    def address(self, port: int) -> str:
        """The connection by another port of this machine."""
        return make_conninfo(self.conninfo, host="127.0.0.1", port=port)

    def endpoint(self) -> str:
        host = self._server.info.host
        return f"{host}/.s.PGSQL.{self.port}" if host.startswith("/") else super().endpoint()

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

    def counters(self) -> Counters:
        """WAL of the whole server; transactions and rows of this database, less our own."""
        self._server.execute("SELECT pg_stat_clear_snapshot()")
        has_flushes = self._database.info.server_version < 180000
        flushes = "(SELECT wal_sync FROM pg_stat_wal)" if has_flushes else "NULL::bigint"
        row: Any = self._server.execute(
            f"""
            SELECT pg_current_wal_insert_lsn() - '0/0', {flushes}, xact_commit + xact_rollback,
                   tup_inserted + tup_updated + tup_deleted
            FROM pg_stat_database WHERE datname = %s
            """,
            [self.database],
        ).fetchone()
        return Counters(int(row[0]), row[1], int(row[2]), int(row[3]))

    def kept_bytes(self) -> int:
        """What this database's tables take on disk, with indexes and TOAST, less the catalog."""
        return self._count(
            """
            SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class AS c
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'm') AND n.nspname NOT LIKE 'pg\\_%'
              AND n.nspname <> 'information_schema'
            """
        )

    def commands(self) -> int | None:
        """Transactions in the benchmark's database; asked from another one, so none is ours."""
        row = self._server.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s",
            [self.database],
        ).fetchone()
        return int(row[0]) if row else None

    def connections(self, worker: Worker) -> int:
        row = self._server.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend' AND pid <> %s",
            [self.database, self._database.info.backend_pid],
        ).fetchone()
        return int(row[0]) if row else 0

    def _show(self, setting: str) -> str:
        row = self._server.execute("SELECT current_setting(%s)", [setting]).fetchone()
        return str(row[0]) if row else "unknown"

    def _count(self, statement: str) -> int:
        row = self._database.execute(statement).fetchone()
        return int(row[0]) if row else 0


def libpq_url(scheme: str, conninfo: str) -> str:
    """The connection as ``scheme://user:password@/dbname?host=...``, which libpq understands.

    Hosts stand in the query, so that sockets and lists of hosts need no case of their own.
    """
    options = {key: str(value) for key, value in conninfo_to_dict(conninfo).items()}
    database = options.pop("dbname")
    user = quote(options.pop("user", ""), safe="")
    password = options.pop("password", "")
    login = f"{user}:{quote(password, safe='')}@" if password else f"{user}@" if user else ""
    return f"{scheme}://{login}/{quote(database, safe='')}?{urlencode(options, quote_via=quote)}"
