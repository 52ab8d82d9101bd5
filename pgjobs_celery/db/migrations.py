"""Bring the schema up or down, one file and one transaction at a time, and say where it stands.

The files lie in ``migrations/`` (in a wheel: ``pgjobs_celery/_migrations``), are called
``NNNN_verb_noun.sql`` and hold two sections, ``-- migrate:up`` and ``-- migrate:down``. A line
``-- migrate:breaking`` says that a release which does not know the file cannot work after it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ..errors import (
    ConnectionFailed,
    InvalidOption,
    MigrationFailed,
    MigrationLocked,
    PermissionMissing,
    PgJobsError,
    SchemaError,
    SchemaMissing,
    SchemaOutOfDate,
    SchemaTooNew,
)
from .failures import connection_failed
from .sql import in_schema

Connection: TypeAlias = "psycopg.Connection[Any]"

COMMAND = "celery -A proj pgjobs migrate"

#: How often a step that ran into lock_timeout is tried before MigrationLocked.
LOCK_ATTEMPTS = 3

#: Seconds between two looks at a lock that somebody else holds.
LOCK_POLL = 0.2

_PACKAGE = Path(__file__).parent.parent
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_MARKER = re.compile(r"^-- migrate:(up|down|breaking)[ \t]*$", re.MULTILINE)
#: What a migration creates that a role needs rights on; a partition is used through its parent.
_CREATED = re.compile(
    r"^CREATE (?:UNLOGGED )?(TABLE|SEQUENCE) pgjobs\.(\w+)(?! PARTITION OF)\b", re.MULTILINE
)

#: The schema's comment when it was created here; one that a DBA made is never dropped.
_OURS = "Created by pgjobs-celery"
_CREATE_SCHEMA = f"CREATE SCHEMA pgjobs;\nCOMMENT ON SCHEMA pgjobs IS '{_OURS}';\n"
_CREATE_TABLE = """\
CREATE TABLE pgjobs.migrations (
  version    integer PRIMARY KEY,
  name       text        NOT NULL,
  checksum   text        NOT NULL,
  breaking   boolean     NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now(),
  applied_by text        NOT NULL DEFAULT current_user
);
"""
_DROP_TABLE = "DROP TABLE pgjobs.migrations;\n"
# Whether other tables live in the schema is for the server to say.
_DROP_SCHEMA = """\
DO $$ BEGIN
  DROP SCHEMA pgjobs;
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
END $$;
"""

# One statement, for it runs in every process that connects. It names the migrations table
# outright: where that cannot be read, the server's error code tells why.
_CHECK = """
SELECT
  (SELECT coalesce(array_agg(version), '{}') FROM pgjobs.migrations),
  (SELECT coalesce(array_agg(version), '{}') FROM pgjobs.migrations WHERE breaking),
  (SELECT coalesce(array_agg(c.relname::text ORDER BY c.relname), '{}')
   FROM pg_catalog.pg_class AS c
   JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
   WHERE n.nspname = %(schema)s AND c.relname = ANY(%(relations)s)
     AND NOT CASE c.relkind
       WHEN 'S' THEN has_sequence_privilege(c.oid, 'USAGE')
       ELSE has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
     END)
"""
# From the catalogs: to_regclass() raises where the role lacks USAGE on the schema.
_LOOK = """
SELECT n.oid IS NOT NULL, c.oid IS NOT NULL,
       has_schema_privilege(n.oid, 'USAGE')
         AND coalesce(has_table_privilege(c.oid, 'SELECT'), true),
       obj_description(n.oid, 'pg_namespace')
FROM (VALUES (1)) AS always
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = %(schema)s
LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'migrations'
"""
_HOLDERS = """
SELECT DISTINCT l.pid
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_database AS d ON d.oid = l.database
WHERE n.nspname = %(schema)s AND d.datname = current_database() AND l.granted
  AND l.pid <> pg_backend_pid()
ORDER BY l.pid
"""


@dataclass(frozen=True)
class Migration:
    """One file of ``migrations/``; the line numbers say where its sections begin."""

    version: int
    name: str
    up: str
    down: str
    breaking: bool
    checksum: str
    up_line: int = 1
    down_line: int = 1

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"


@dataclass(frozen=True)
class Step:
    """One migration taken up or down: its file's section between what has to go with it."""

    migration: Migration
    direction: Literal["up", "down"]
    before: str
    body: str
    after: str
    #: How long it took; 0 until it has run.
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.direction:4} {self.migration}"


@dataclass(frozen=True)
class Applied:
    """One row of ``pgjobs.migrations``."""

    version: int
    name: str
    checksum: str
    breaking: bool


@dataclass(frozen=True)
class Status:
    """Where a database stands, compared with the files of this release."""

    schema: str
    has_schema: bool
    has_table: bool
    #: The schema was created by a migration, not by a DBA.
    is_ours: bool
    applied: tuple[Applied, ...]
    files: tuple[Migration, ...]

    @property
    def version(self) -> int:
        """The newest version in the database; 0 where there is none."""
        return max((row.version for row in self.applied), default=0)

    @property
    def newest(self) -> int:
        """The newest version this release has a file for."""
        return self.files[-1].version

    @property
    def pending(self) -> list[Migration]:
        """The files that the database lacks."""
        applied = {row.version for row in self.applied}
        return [file for file in self.files if file.version not in applied]

    @property
    def changed(self) -> list[Migration]:
        """The files that no longer are what was applied."""
        applied = {row.version: row.checksum for row in self.applied}
        return [f for f in self.files if applied.get(f.version, f.checksum) != f.checksum]

    @property
    def is_breaking(self) -> bool:
        """True if a newer release changed the schema in a way this one cannot work with."""
        return any(row.breaking and row.version > self.newest for row in self.applied)


def find_folder() -> Path:
    """The folder with the migration files: inside an installed package, beside a checkout's."""
    for folder in (_PACKAGE / "_migrations", _PACKAGE.parent / "migrations"):
        if any(_FILE_NAME.fullmatch(path.name) for path in folder.glob("*.sql")):
            return folder
    raise SchemaError(
        f"there are no migration files in {_PACKAGE / '_migrations'} nor in "
        f"{_PACKAGE.parent / 'migrations'}: reinstall pgjobs-celery"
    )


@cache
def load_migrations(folder: Path | None = None) -> tuple[Migration, ...]:
    """The files of ``folder`` (this release's) in order; raises SchemaError for a malformed one."""
    files: dict[int, Migration] = {}
    for path in sorted((folder or find_folder()).glob("*.sql")):
        migration = _read(path)
        if migration.version in files:
            raise SchemaError(f"{path.name} has the number of {files[migration.version]}.sql")
        files[migration.version] = migration
    if not files:
        raise SchemaError(f"there are no migration files in {folder}")
    return tuple(files.values())


def _read(path: Path) -> Migration:
    match = _FILE_NAME.fullmatch(path.name)
    if not match or int(match[1]) == 0:
        raise SchemaError(f"{path.name} is not called NNNN_verb_noun.sql, from 0001 on")
    text = path.read_text(encoding="utf-8")
    markers = {marker[1]: marker for marker in _MARKER.finditer(text)}
    up, down = markers.get("up"), markers.get("down")
    if not up or not down or down.start() < up.end():
        raise SchemaError(f"{path.name} needs '-- migrate:up' and, below it, '-- migrate:down'")
    return Migration(
        version=int(match[1]),
        name=match[2],
        up=text[up.end() : down.start()],
        down=text[down.end() :],
        breaking="breaking" in markers,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
        up_line=text.count("\n", 0, up.end()) + 1,
        down_line=text.count("\n", 0, down.end()) + 1,
    )


def connect(conninfo: str, timeout: float = 4.0) -> Connection:
    """A connection in autocommit mode, for migrations and the command line.

    Raises ConnectionFailed, without the password. A ``connect_timeout`` in ``conninfo`` goes
    before ``timeout``.
    """
    params: dict[str, Any] = conninfo_to_dict(conninfo)
    params.setdefault("connect_timeout", max(2, round(timeout)))
    params.setdefault("application_name", "pgjobs-celery")
    try:
        return psycopg.connect(**params, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        failure = connection_failed(error, conninfo)
        said = str(error)
        if "database" in said and "does not exist" in said:
            raise ConnectionFailed(f"{failure}: {_createdb(params)}") from None
        raise failure from None


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
        raise PermissionMissing(f"the database role may not do this: {_said(error)}") from error
    except psycopg.Error as error:
        if connection.closed:
            raise ConnectionFailed(f"the connection was lost: {_said(error)}") from error
        raise PgJobsError(f"the server refused a statement: {_said(error)}") from error
    finally:
        connection.close()


def check_schema(connection: Connection, schema: str, *, folder: Path | None = None) -> None:
    """Raise unless the tables in ``schema`` fit this release and the role may use them.

    Costs one statement and creates nothing. Raises SchemaMissing, SchemaOutOfDate,
    PermissionMissing, or SchemaTooNew if a newer release made a breaking change; a newer schema
    without one is fine. Leaves the caller's transaction usable.
    """
    files = load_migrations(folder)
    relations = [name for _, name in _created(files)]
    # A failing statement must not break a transaction that is not ours.
    alone = connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE
    try:
        with nullcontext() if alone else connection.transaction():
            [(applied, breaking, forbidden)] = _fetch(
                connection, in_schema(_CHECK, schema), schema=schema, relations=relations
            )
    except pg.UndefinedTable:
        raise _missing(schema, files[-1].version) from None
    except pg.InsufficientPrivilege as error:
        raise _permission_missing(connection, schema, files, _said(error)) from None
    except pg.UndefinedColumn:
        raise _foreign_table(schema) from None
    newest, version = files[-1].version, max(applied, default=0)
    if any(number > newest for number in breaking):
        raise _too_new(schema, version, newest)
    if not applied:
        raise _missing(schema, newest)
    if any(file.version not in applied for file in files):
        raise SchemaOutOfDate(
            f"schema {schema} is at version {version}, this release needs {newest}: run `{COMMAND}`"
        )
    if forbidden:
        raise _permission_missing(connection, schema, files, f"no rights on {', '.join(forbidden)}")


def status(connection: Connection, schema: str, *, folder: Path | None = None) -> Status:
    """Where the database stands; reads only. Raises PermissionMissing if it may not be read."""
    files = load_migrations(folder)
    with connection.transaction():
        [(has_schema, has_table, is_readable, comment)] = _fetch(connection, _LOOK, schema=schema)
        if has_schema and not is_readable:
            raise _permission_missing(connection, schema, files, "its migrations cannot be read")
        rows = []
        if has_table:
            text = (
                "SELECT version, name, checksum, breaking FROM pgjobs.migrations ORDER BY version"
            )
            try:
                rows = _fetch(connection, in_schema(text, schema))
            except pg.UndefinedColumn:
                raise _foreign_table(schema) from None
    applied = tuple(Applied(*row) for row in rows)
    return Status(schema, has_schema, has_table, comment == _OURS, applied, files)


def plan(
    connection: Connection, schema: str, to: int | None = None, *, folder: Path | None = None
) -> list[Step]:
    """The steps that bring ``schema`` to version ``to`` (None: the newest); reads only.

    Raises SchemaTooNew where a newer release made a breaking change or would have to take its
    own steps down first, and InvalidOption for a version that does not exist.
    """
    now = status(connection, schema, folder=folder)
    versions = [file.version for file in now.files]
    if to is not None and to not in (0, *versions):
        raise InvalidOption(
            f"there is no migration {to}; the newest is {now.newest}, 0 removes all"
        )
    if now.is_breaking:
        raise _too_new(schema, now.version, now.newest)
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
    steps = [_step_down(file, schema) for file in reversed(down)]
    if steps and len(down) == len(applied):
        last = steps.pop()
        drop = _DROP_TABLE + (_DROP_SCHEMA if now.is_ours else "")
        steps.append(replace(last, after=last.after + in_schema(drop, schema)))
    up = [file for file in now.pending if to is None or file.version <= to]
    before = ("" if now.has_schema else _CREATE_SCHEMA) + ("" if now.has_table else _CREATE_TABLE)
    for file in up:
        steps.append(_step_up(file, schema, before))
        before = ""
    return steps


def _step_up(file: Migration, schema: str, before: str) -> Step:
    row = f"{file.version}, '{file.name}', '{file.checksum}', {str(file.breaking).lower()}"
    record = f"INSERT INTO pgjobs.migrations (version, name, checksum, breaking)\nVALUES ({row});\n"
    before, body, after = (in_schema(text, schema) for text in (before, file.up, record))
    return Step(file, "up", before, body, after)


def _step_down(file: Migration, schema: str) -> Step:
    record = f"DELETE FROM pgjobs.migrations WHERE version = {file.version};\n"
    return Step(file, "down", "", in_schema(file.down, schema), in_schema(record, schema))


def script(steps: Sequence[Step], lock_timeout: float = 5.0) -> str:
    """The SQL of ``steps`` for psql, each in a transaction with its record."""
    parts = ["\\set ON_ERROR_STOP on\n"]
    for step in steps:
        body = "\n".join(filter(None, map(str.strip, (step.before, step.body, step.after))))
        timeout = f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)};"
        parts.append(f"-- {step}\nBEGIN;\n{timeout}\n{body}\nCOMMIT;\n")
    return "\n".join(parts)


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
                    if step is not None:
                        _run(connection, schema, step, done)
            if is_locked:
                return step and replace(step, seconds=time.monotonic() - began)
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
    [(is_locked,)] = _fetch(
        connection, "SELECT pg_try_advisory_xact_lock(%(key)s)", key=lock_key(schema)
    )
    if is_locked:
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}".encode())
    return bool(is_locked)


def _run(connection: Connection, schema: str, step: Step, done: Sequence[Step]) -> None:
    if any(step.migration == earlier.migration for earlier in done):
        raise MigrationLocked(
            f"another process takes schema {schema} to another version at the same time: run one "
            "of them"
        )
    for text in (step.before, step.body, step.after):
        if text.strip():
            connection.execute(text.encode())


def _blocked(
    connection: Connection, schema: str, step: Step | None, waited: float
) -> MigrationLocked:
    pids = ", ".join(str(pid) for (pid,) in _fetch(connection, _HOLDERS, schema=schema))
    return MigrationLocked(
        f"{step}: a table in schema {schema} stayed locked, {LOCK_ATTEMPTS} times for "
        f"{waited:g} s; nothing of this step was applied. End the transaction that holds it"
        + (f" (server process {pids}; SELECT pg_terminate_backend(pid) ends one)" if pids else "")
        + " or raise --lock-timeout, then migrate again"
    )


def _failed(step: Step | None, error: psycopg.Error) -> MigrationFailed:
    if step is None:
        return MigrationFailed(f"no migration was run: {_said(error)}")
    where = ""
    if error.diag.statement_position:
        before = step.body[: int(error.diag.statement_position) - 1]
        first = step.migration.up_line if step.direction == "up" else step.migration.down_line
        where = f" line {first + before.count(chr(10))}"
    return MigrationFailed(
        f"{step.migration}.sql{where}: {_said(error)}; "
        "rolled back, nothing of this file was applied"
    )


def _may_not_migrate(
    connection: Connection, schema: str, step: Step | None, error: psycopg.Error
) -> PermissionMissing:
    role, database = _quoted(connection.info.user), _quoted(connection.info.dbname)
    if step is not None and "CREATE SCHEMA" in step.before:
        remedy = (
            f"CREATE SCHEMA {_quoted(schema)} AUTHORIZATION {role}; or GRANT CREATE ON DATABASE "
            f"{database} TO {role};"
        )
    else:
        remedy = (
            f"GRANT USAGE, CREATE ON SCHEMA {_quoted(schema)} TO {role}; or migrate as the role "
            "that owns the tables"
        )
    return PermissionMissing(
        f"{step or 'no migration was run'}: {_said(error)}; let an owner run {remedy}"
    )


def _permission_missing(
    connection: Connection, schema: str, files: Sequence[Migration], reason: str
) -> PermissionMissing:
    role, name = _quoted(connection.info.user), _quoted(schema)
    created = _created(files)
    tables = ", ".join(f"{name}.{table}" for kind, table in created if kind == "TABLE")
    sequences = ", ".join(f"{name}.{sequence}" for kind, sequence in created if kind == "SEQUENCE")
    grants = [
        f"GRANT USAGE ON SCHEMA {name} TO {role}",
        f"GRANT SELECT ON {name}.migrations TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}",
        f"GRANT USAGE ON SEQUENCE {sequences} TO {role}",
    ]
    return PermissionMissing(
        f"role {role} may not use schema {schema} ({reason}); let its owner run: "
        + "; ".join(grants if sequences else grants[:-1])
        + ";"
    )


def _created(files: Sequence[Migration]) -> list[tuple[str, str]]:
    """Kind and name of every table and sequence that the files create."""
    return [found for file in files for found in _CREATED.findall(file.up)]


def _missing(schema: str, newest: int) -> SchemaMissing:
    return SchemaMissing(
        f"schema {schema} has no tables of this package (version 0, this release needs {newest}): "
        f"run `{COMMAND}`"
    )


def _too_new(schema: str, version: int, newest: int) -> SchemaTooNew:
    return SchemaTooNew(
        f"schema {schema} was brought to version {version} by a newer, incompatible release; this "
        f"one knows {newest}: upgrade pgjobs-celery here, or run `{COMMAND} --to {newest}` there"
    )


def _foreign_table(schema: str) -> SchemaError:
    return SchemaError(
        f"the table migrations in schema {schema} belongs to something else: choose another schema "
        "in broker_transport_options and result_backend_transport_options"
    )


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def _said(error: psycopg.Error) -> str:
    parts = (error.diag.message_primary or str(error), error.diag.message_detail)
    return " ".join(". ".join(filter(None, parts)).split())


def _fetch(connection: Connection, text: str, **values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(text.encode(), values or None).fetchall()
