"""Databases with nothing in them, and roles with no rights."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.migrations import migrate as migrations


@pytest.fixture
def living_nodes(database: Database) -> None:
    """Nodes 1 to 19 live, for tests that claim in their names."""
    rest = {"queues": [], "version": "", "lease": 3600.0, "grace": 0.0, "lost_claims": 0}
    # One by one they take longer than most of these tests.
    database.run(
        [
            database.call(
                "beat_node",
                node=uuid.UUID(int=number),
                name=f"node{number}",
                details=None,
                tasks=None,
                **rest,
            )
            for number in range(1, 20)
        ]
    )


@pytest.fixture
def connect(bare_database: str) -> Iterator[Callable[..., psycopg.Connection]]:
    opened = []

    def connect(**params: object) -> psycopg.Connection:
        opened.append(migrations.connect(make_conninfo(bare_database, **params)))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def db(connect: Callable[..., psycopg.Connection]) -> psycopg.Connection:
    return connect()


@pytest.fixture
def role(server_url: str, bare_database: str) -> Iterator[str]:
    name = f"pgjobs_mig_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'role-secret'")
        yield name
        with psycopg.connect(bare_database, autocommit=True) as database:
            database.execute(f"DROP OWNED BY {name} CASCADE")
        server.execute(f"DROP ROLE {name}")


@pytest.fixture
def as_role(
    connect: Callable[..., psycopg.Connection], role: str
) -> Callable[[], psycopg.Connection]:
    return lambda: connect(user=role, password="role-secret")
