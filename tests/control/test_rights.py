"""Which actions a database role may do."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.control.rights import ACTION_RIGHTS, look_at_rights
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url

from ..conftest import Connection

ROLE = "pgjobs_page_reader"


@pytest.fixture
def reader(connection: Connection, url: str) -> Iterator[Database]:
    """The database as a role sees it that may only read."""
    drop = f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}"
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
        connection.execute(drop)
    connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 't0p-s3cret'")
    connection.execute(f"GRANT USAGE ON SCHEMA pgjobs TO {ROLE}")
    connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA pgjobs TO {ROLE}")
    conninfo = psycopg.conninfo.make_conninfo(parse_url(url), user=ROLE, password="t0p-s3cret")
    database = Database(conninfo, Options())
    database.rights = {"jobs": ("SELECT",)}
    yield database
    database.close()
    connection.execute(drop)


def test_the_owner_may_do_all(database: Database):
    rights = look_at_rights(database)
    assert rights.refused == {}
    assert rights.notice == ""


def test_a_role_that_may_only_read_may_do_nothing_until_it_is_granted(
    reader: Database, connection: Connection
):
    rights = look_at_rights(reader)
    assert rights.refused.keys() == ACTION_RIGHTS.keys()
    assert rights.notice == (
        f"The database role {ROLE} may only read: nothing can be changed here."
    )
    assert rights.refused["resume_queue"] == (
        f"the database role {ROLE} lacks INSERT on audit, UPDATE on limits"
    )
    assert "and" in rights.refused["publish_jobs"]
    for action in ("resume_queue", "publish_jobs"):
        for statement in rights.grants[action].rstrip(";").split("; "):
            connection.execute(statement)
        assert action not in look_at_rights(reader).refused
    assert look_at_rights(reader).notice == ""


def test_a_server_that_takes_no_writes_is_named(database: Database, url: str):
    conninfo = psycopg.conninfo.make_conninfo(
        parse_url(url), options="-c default_transaction_read_only=on"
    )
    standby = Database(conninfo, Options())
    rights = look_at_rights(standby)
    standby.close()
    assert "takes no writes" in rights.notice
    assert rights.refused.keys() == ACTION_RIGHTS.keys()
    assert rights.grants == {}
