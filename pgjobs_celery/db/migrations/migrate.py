"""Bring the schema up or down, one file and one transaction at a time."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from ...errors import (
    ConnectionFailed,
    InvalidOption,
    MigrationFailed,
    MigrationLocked,
    PermissionMissing,
    PgJobsError,
    SchemaError,
    SchemaTooNew,
)
from ..django_aliases import resolve
from ..failures import cause, connection_failed
from ..rights import quoted
from ..sql import in_schema
from .files import (
    BUILD_PATH,
    CREATE_SCHEMA,
    CREATE_TABLE,
    DROP_SCHEMA,
    DROP_TABLE,
    SAFE_PATH,
    Step,
    step_down,
    step_up,
)
from .versions import Connection, fetch, status, too_new

#: How often a step that ran into lock_timeout is tried before MigrationLocked.
LOCK_ATTEMPTS = 3

#: Seconds between two looks at a lock that another session holds.
LOCK_POLL = 0.2

_HOLDERS = """
SELECT DISTINCT l.pid
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_database AS d ON d.oid = l.database
WHERE n.nspname = %(schema)s AND d.datname = pg_catalog.current_database() AND l.granted
  AND l.pid <> pg_catalog.pg_backend_pid()
ORDER BY l.pid
"""


def connect(conninfo: str, timeout: float = 4.0) -> Connection:
    """A connection in autocommit mode, for migrations and the command line.

    Raises ConnectionFailed, without the password. A ``connect_timeout`` in ``conninfo`` goes
    before ``timeout``.
    """
    conninfo = resolve(conninfo)
    params: dict[str, Any] = conninfo_to_dict(conninfo)
    params.setdefault("connect_timeout", max(2, round(timeout)))
    params.setdefault("application_name", "pgjobs-celery")
    params["client_encoding"] = "UTF8"
    try:
        return psycopg.connect(**params, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        failure = connection_failed(error, conninfo)
        words = str(error)
        if "database" in words and "does not exist" in words:
            raise ConnectionFailed(f"{failure}: {_createdb(params)}") from None
        raise failure from None


def first_live(conninfos: Sequence[str], timeout: float = 4.0) -> str:
    """Of servers that stand in for each other the first that takes writes.

    None does: the first that answers; none answers: the first, whose error says why. A single one
    is not asked.
    """
    if len(conninfos) == 1:
        return conninfos[0]
    answering = []
    for conninfo in conninfos:
        with suppress(PgJobsError, psycopg.Error), closing(connect(conninfo, timeout)) as found:
            answering.append(conninfo)
            row = found.execute("SELECT pg_catalog.current_setting('transaction_read_only')")
            if row.fetchone() == ("off",):
                return conninfo
    return (answering or conninfos)[0]


def _createdb(params: dict[str, Any]) -> str:
    flags = {"-h": params.get("host"), "-p": params.get("port"), "-U": params.get("user")}
    words = [word for flag, value in flags.items() if value for word in (flag, str(value))]
    return shlex.join(["createdb", *words, str(params.get("dbname") or params.get("user") or "")])


@contextmanager
def session(conninfo: str, timeout: float = 4.0) -> Iterator[Connection]:
    """:func:`connect` for one block; every psycopg error in it becomes a PgJobsError."""
    connection = connect(conninfo, timeout)
    try:
        yield connection
    except pg.InsufficientPrivilege as error:
        raise PermissionMissing(f"the database role may not do this: {cause(error)}") from error
    except psycopg.Error as error:
        if connection.closed:
            raise ConnectionFailed(f"the connection was lost: {cause(error)}") from error
        raise PgJobsError(f"the server refused a statement: {cause(error)}") from error
    finally:
        connection.close()


def plan(
    connection: Connection, schema: str, to: int | None = None, *, folder: Path | None = None
) -> list[Step]:
    """The steps that bring ``schema`` to version ``to`` (None: the newest); reads only.

    Raises SchemaError for a database that is not UTF8; SchemaTooNew where a newer release made a
    breaking change or would have to take its own steps down first; and InvalidOption for a version
    that does not exist.
    """
    if to != 0:
        _refuse_encoding(connection)
    now = status(connection, schema, folder=folder)
    versions = [file.version for file in now.files]
    if to is not None and to not in (0, *versions):
        raise InvalidOption(
            f"there is no migration {to}; the newest is {now.newest}, 0 removes all"
        )
    if now.is_breaking:
        raise too_new(schema, now.version, now.newest)
    unknown = [row for row in now.applied if row.version not in versions]
    if to is not None and any(row.version > to for row in unknown):
        raise SchemaTooNew(
            f"schema {schema} is at version {now.version}, this release knows {now.newest}: only "
            "the release that brought it there can take it down"
        )
    applied = {row.version for row in now.applied}
    down = [
        row for row in now.files if to is not None and row.version in applied and row.version > to
    ]
    steps = [step_down(file, schema) for file in reversed(down)]
    if steps and len(down) == len(applied):
        last = steps.pop()
        drop = DROP_TABLE + (DROP_SCHEMA if now.is_ours else "")
        steps.append(replace(last, after=last.after + in_schema(drop, schema)))
    up = [file for file in now.pending if to is None or file.version <= to]
    before = ("" if now.has_schema else CREATE_SCHEMA) + ("" if now.has_table else CREATE_TABLE)
    for file in up:
        steps.append(step_up(file, schema, before))
        before = ""
    return steps


def _refuse_encoding(connection: Connection) -> None:
    """Messages are Unicode, which text in another encoding cannot hold, and jsonb only in part."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise SchemaError(
            f"the database {connection.info.dbname} is encoded in {encoding}, and jobs need UTF8: "
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0, or choose another database"
        )


def migrate(
    connection: Connection,
    schema: str,
    to: int | None = None,
    *,
    lock_timeout: float = 5.0,
    wait: float = 60.0,
    on_step: Callable[[Step], object] | None = None,
    folder: Path | None = None,
) -> list[Step]:
    """Bring ``schema`` to version ``to`` (None: the newest, 0: nothing left) and say what ran.

    Every file runs with its record in one transaction, under a lock that lets one process
    migrate a schema at a time; ``on_step`` hears of each as it is committed. ``to=0`` drops the
    migrations table too, and the schema if a migration created it and it is empty.

    Raises MigrationLocked when another process migrates for longer than ``wait`` seconds, or
    when a table stays locked for ``lock_timeout`` seconds three times in a row, so that no
    worker queues up behind a migration that waits; MigrationFailed when a file fails, after
    rolling it back; PermissionMissing with what to GRANT; and what :func:`plan` raises.
    """
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise MigrationFailed("migrations need a connection that is not in a transaction")
    steps: list[Step] = []
    while plan(connection, schema, to, folder=folder):
        step = _run_next(
            connection,
            schema,
            to,
            lock_timeout=lock_timeout,
            wait=wait,
            done=steps,
            folder=folder,
        )
        if step is not None:
            steps.append(step)
            if on_step is not None:
                on_step(step)
    return steps


def _run_next(
    connection: Connection,
    schema: str,
    to: int | None,
    *,
    lock_timeout: float,
    wait: float,
    done: Sequence[Step],
    folder: Path | None,
) -> Step | None:
    """Run the first step of the plan; None if others did all of it in the meantime."""
    deadline = time.monotonic() + wait
    blocked = 0
    step: Step | None = None
    while True:
        began = time.monotonic()
        try:
            with connection.transaction():
                is_locked = _try_lock(connection, schema, lock_timeout)
                if is_locked:
                    step = next(iter(plan(connection, schema, to, folder=folder)), None)
                    if step is not None and not step.builds:
                        _run(connection, schema, step, done)
            if step is not None and step.builds:
                is_locked = _build(connection, schema, step, lock_timeout, folder)
            if is_locked:
                return replace(step, seconds=time.monotonic() - began) if step else None
        except (pg.LockNotAvailable, pg.DeadlockDetected) as error:
            blocked += 1
            if blocked == LOCK_ATTEMPTS:
                raise _blocked(connection, schema, step, lock_timeout) from error
        except pg.InsufficientPrivilege as error:
            raise _may_not_migrate(connection, schema, step, error) from error
        except psycopg.Error as error:
            raise _failed(step, error) from error
        if time.monotonic() >= deadline and not blocked:
            raise MigrationLocked(
                f"another process has been migrating schema {schema} for {wait:g} s: try again "
                "when it is done (it holds an advisory lock, see pg_locks)"
            )
        time.sleep(LOCK_POLL)


def lock_key(schema: str) -> int:
    """The advisory lock that a process holds while it migrates ``schema``."""
    digest = hashlib.sha256(f"pgjobs-celery migrates {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _try_lock(connection: Connection, schema: str, lock_timeout: float) -> bool:
    # Held by the transaction, not by the session: it goes with it whatever happens, and works
    # through a transaction pooler. Polled, because waiting for an advisory lock holds a snapshot,
    # and a CREATE INDEX CONCURRENTLY elsewhere would wait for that snapshot: a deadlock.
    # A snapshot older than the lock would not show what its last holder did.
    connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
    [(is_locked,)] = fetch(
        connection, "SELECT pg_catalog.pg_try_advisory_xact_lock(%(key)s)", key=lock_key(schema)
    )
    if is_locked:
        connection.execute(SAFE_PATH)
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}")
    return bool(is_locked)


def _build(
    connection: Connection, schema: str, step: Step, lock_timeout: float, folder: Path | None
) -> bool:
    """Build the indexes of a step while jobs go on, and record it; False if another migrates.

    What an interrupted build has left is dropped before. The lock is the session's: the
    transaction of one would hold a snapshot, and the build waits until no older one is in use.
    """
    key = lock_key(schema)
    was_autocommit, connection.autocommit = connection.autocommit, True
    [(is_locked,)] = fetch(connection, "SELECT pg_catalog.pg_try_advisory_lock(%(key)s)", key=key)
    if not is_locked:
        connection.autocommit = was_autocommit
        return False
    try:
        _refuse_pooler(connection, key)
        # It waits for old transactions, and meanwhile nothing waits for it.
        connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        # The build is a transaction of its own kind: only the defaults say what it may do.
        connection.execute(
            "SET default_transaction_read_only = off;"
            "SET default_transaction_isolation = 'read committed'"
        )
        connection.execute(BUILD_PATH)
        for build in step.builds:
            for (drop,) in fetch(connection, build.drop):
                connection.execute(drop)
            connection.execute(build.statement)
        with connection.transaction():
            _try_lock(connection, schema, lock_timeout)
            # Another process may have done it while this one waited for the lock.
            if step.migration in status(connection, schema, folder=folder).pending:
                _run(connection, schema, step, ())
    finally:
        with suppress(psycopg.Error):
            connection.execute(
                "RESET lock_timeout; RESET statement_timeout; RESET search_path;"
                "RESET default_transaction_read_only; RESET default_transaction_isolation"
            )
            fetch(connection, "SELECT pg_catalog.pg_advisory_unlock(%(key)s)", key=key)
            connection.autocommit = was_autocommit
    return True


def _refuse_pooler(connection: Connection, key: int) -> None:
    """Behind a transaction pooler the lock would be another session's."""
    text = """
    SELECT FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.pid = pg_catalog.pg_backend_pid() AND l.objsubid = 1
      AND l.classid = (%(key)s::bigint >> 32 & 4294967295)::pg_catalog.oid
      AND l.objid = (%(key)s::bigint & 4294967295)::pg_catalog.oid
    """
    if not fetch(connection, text, key=key):
        raise MigrationFailed(
            "an index cannot be built through a pooler that changes the session: give --url with "
            "the server's own address"
        )


def _run(connection: Connection, schema: str, step: Step, done: Sequence[Step]) -> None:
    if any(step.migration == earlier.migration for earlier in done):
        raise MigrationLocked(
            f"another process takes schema {schema} to another version at the same time: run one "
            "of them"
        )
    for text in (step.before, step.body, step.after):
        if text.strip():
            connection.execute(text)


def _blocked(
    connection: Connection, schema: str, step: Step | None, waited: float
) -> MigrationLocked:
    pids = ", ".join(str(pid) for (pid,) in fetch(connection, _HOLDERS, schema=schema))
    return MigrationLocked(
        f"{step}: a table in schema {schema} stayed locked, {LOCK_ATTEMPTS} times for "
        f"{waited:g} s; nothing of this step was applied. End the transaction that holds it"
        + (f" (server process {pids}; SELECT pg_terminate_backend(pid) ends one)" if pids else "")
        + " or raise --lock-timeout, then migrate again"
    )


def _failed(step: Step | None, error: psycopg.Error) -> MigrationFailed:
    if step is None:
        return MigrationFailed(f"no migration was run: {cause(error)}")
    where = ""
    if error.diag.statement_position:
        before = step.body[: int(error.diag.statement_position) - 1]
        first = step.migration.up_line if step.direction == "up" else step.migration.down_line
        where = f" line {first + before.count(chr(10))}"
    left = "rolled back, nothing of this file was applied"
    if step.builds:
        left = "migrate again: it drops what is left of an unfinished index, and builds it anew"
    return MigrationFailed(f"{step.migration}.sql{where}: {cause(error)}; {left}")


def _may_not_migrate(
    connection: Connection, schema: str, step: Step | None, error: psycopg.Error
) -> PermissionMissing:
    role, database = quoted(connection.info.user), quoted(connection.info.dbname)
    if step is not None and "CREATE SCHEMA" in step.before:
        remedy = (
            f"CREATE SCHEMA {quoted(schema)} AUTHORIZATION {role}; or GRANT CREATE ON DATABASE "
            f"{database} TO {role};"
        )
    else:
        remedy = (
            f"GRANT USAGE, CREATE ON SCHEMA {quoted(schema)} TO {role}; or migrate as the role "
            "that owns the tables"
        )
    return PermissionMissing(
        f"{step or 'no migration was run'}: {cause(error)}; let an owner run {remedy}"
    )
