"""Databases for tests: created on a server, migrated, emptied and dropped."""

from __future__ import annotations

from psycopg import sql

from .dsn import parse_url
from .migrations.migrate import migrate, session


def create_database(server_url: str, name: str) -> None:
    """Create an empty database. Raises PgJobsError where the role may not."""
    with session(parse_url(server_url)) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def drop_database(server_url: str, name: str) -> None:
    """Drop a database, even while sessions are connected to it."""
    with session(parse_url(server_url)) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def migrate_database(url: str, schema: str = "pgjobs") -> None:
    """Bring the schema of a database to this release."""
    with session(parse_url(url)) as connection:
        migrate(connection, schema)


def empty_database(url: str, schema: str = "pgjobs") -> None:
    """Remove all jobs, messages, queues and what else the tables hold, but for the migrations."""
    with session(parse_url(url)) as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_catalog.pg_tables "
            "WHERE schemaname = %s AND tablename <> 'migrations' ORDER BY 1",
            [schema],
        ).fetchall()
        # To truncate takes longer where the tables are small.
        for (table,) in found:
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, table)))
