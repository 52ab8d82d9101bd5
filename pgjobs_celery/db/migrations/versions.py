"""Say where a database stands, compared with the files of this release; only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from psycopg import errors as pg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ...errors import PermissionMissing, SchemaError, SchemaMissing, SchemaOutOfDate, SchemaTooNew
from ..failures import cause
from ..rights import Rights, all_rights, grants, quoted
from ..sql import in_schema
from .files import OURS, Migration, load_migrations

Connection: TypeAlias = "psycopg.Connection[Any]"

COMMAND = "celery -A proj pgjobs migrate"

# One statement, for it runs in every process that connects. It names the migrations table
# outright: where that cannot be read, the server's error code tells why.
_CHECK = """
SELECT
  (SELECT coalesce(pg_catalog.array_agg(version), '{}') FROM pgjobs.migrations),
  (SELECT coalesce(pg_catalog.array_agg(version), '{}') FROM pgjobs.migrations WHERE breaking),
  (SELECT coalesce(pg_catalog.array_agg(DISTINCT c.relname::text), '{}')
   FROM ROWS FROM (
     pg_catalog.unnest(%(relations)s::text[]), pg_catalog.unnest(%(privileges)s::text[])
   ) AS needed (relation, privilege)
   JOIN pg_catalog.pg_namespace AS n ON n.nspname = %(schema)s
   JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = needed.relation
   WHERE NOT CASE c.relkind
     WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, needed.privilege)
     ELSE pg_catalog.has_table_privilege(c.oid, needed.privilege)
   END),
  pg_catalog.current_setting('array_nulls')
"""
# From the catalogs: to_regclass() raises where the role lacks USAGE on the schema.
_LOOK = """
SELECT n.oid IS NOT NULL, c.oid IS NOT NULL,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE')
         AND coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT'), true),
       pg_catalog.obj_description(n.oid, 'pg_namespace')
FROM (VALUES (1)) AS always
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = %(schema)s
LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'migrations'
"""


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


def check_schema(
    connection: Connection,
    schema: str,
    *,
    rights: Rights | None = None,
    folder: Path | None = None,
) -> bool:
    """Raise unless the tables in ``schema`` fit this release and the role may use them.

    Returns whether NULL may stand in an array, which a role can have been told otherwise.

    ``rights`` are what it must be allowed to do; None: everything, as a worker. Costs one statement
    and creates nothing. Raises SchemaMissing, SchemaOutOfDate, PermissionMissing, or SchemaTooNew
    if a newer release made a breaking change; a newer schema without one is fine. Leaves the
    caller's transaction usable.
    """
    files = load_migrations(folder)
    needed = all_rights(files) if rights is None else rights
    pairs = [(name, privilege) for name, given in needed.items() for privilege in given]
    # A failing statement must not break a transaction that is not ours.
    alone = connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE
    try:
        with nullcontext() if alone else connection.transaction():
            [(applied, breaking, forbidden, array_nulls)] = fetch(
                connection,
                in_schema(_CHECK, schema),
                schema=schema,
                relations=[name for name, _ in pairs],
                privileges=[privilege for _, privilege in pairs],
            )
    except pg.UndefinedTable:
        raise _missing(schema, files[-1].version) from None
    except pg.InsufficientPrivilege as error:
        raise _permission_missing(connection, schema, files, cause(error), needed) from None
    except pg.UndefinedColumn:
        raise _foreign_table(schema) from None
    newest, version = files[-1].version, max(applied, default=0)
    if any(number > newest for number in breaking):
        raise too_new(schema, version, newest)
    if not applied:
        raise _missing(schema, newest)
    if any(file.version not in applied for file in files):
        raise SchemaOutOfDate(
            f"schema {schema} is at version {version}, this release needs {newest}: run `{COMMAND}`"
        )
    if forbidden:
        reason = f"no rights on {', '.join(sorted(forbidden))}"
        raise _permission_missing(connection, schema, files, reason, needed)
    return bool(array_nulls == "on")


@contextmanager
def permitted(connection: Connection, schema: str, rights: Rights) -> Iterator[None]:
    """Where the role may not do what the block does, raise PermissionMissing: what to GRANT."""
    try:
        yield
    except pg.InsufficientPrivilege as error:
        files = load_migrations()
        raise _permission_missing(connection, schema, files, cause(error), rights) from None


def status(
    connection: Connection,
    schema: str,
    *,
    rights: Rights | None = None,
    folder: Path | None = None,
) -> Status:
    """Where the database stands; reads only. Raises PermissionMissing if it may not be read."""
    files = load_migrations(folder)
    with connection.transaction():
        [(has_schema, has_table, is_readable, comment)] = fetch(connection, _LOOK, schema=schema)
        if has_schema and not is_readable:
            reason = "its migrations cannot be read"
            raise _permission_missing(connection, schema, files, reason, rights)
        rows = []
        if has_table:
            text = (
                "SELECT version, name, checksum, breaking FROM pgjobs.migrations ORDER BY version"
            )
            try:
                rows = fetch(connection, in_schema(text, schema))
            except pg.UndefinedColumn:
                raise _foreign_table(schema) from None
    applied = tuple(Applied(*row) for row in rows)
    return Status(schema, has_schema, has_table, comment == OURS, applied, files)


def _permission_missing(
    connection: Connection,
    schema: str,
    files: Sequence[Migration],
    reason: str,
    rights: Rights | None = None,
) -> PermissionMissing:
    """The error for a role that may not use the tables, with what to GRANT."""
    # Not the one that has logged in, where another was assumed.
    [(user,)] = fetch(connection, "SELECT current_user")
    role = quoted(user)
    needed = all_rights(files) if rights is None else rights
    return PermissionMissing(
        f"role {role} may not use schema {schema} ({reason}); let its owner run: "
        + grants(needed, files, schema, role)
    )


def _missing(schema: str, newest: int) -> SchemaMissing:
    return SchemaMissing(
        f"schema {schema} has no tables of this package (version 0, this release needs {newest}): "
        f"run `{COMMAND}`"
    )


def too_new(schema: str, version: int, newest: int) -> SchemaTooNew:
    """The error for a schema that only a newer release can work with."""
    return SchemaTooNew(
        f"schema {schema} was brought to version {version} by a newer, incompatible release; this "
        f"one knows {newest}: upgrade pgjobs-celery here, or run `{COMMAND} --to {newest}` there"
    )


def _foreign_table(schema: str) -> SchemaError:
    return SchemaError(
        f"the table migrations in schema {schema} belongs to something else: choose another schema "
        "in broker_transport_options and result_backend_transport_options"
    )


def fetch(connection: Connection, text: str, **values: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement, as tuples whatever the connection makes of rows."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(text, values or None).fetchall()
