"""Where PostgreSQL publishes all tables, workers go on, and a subscriber has what they have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import chord

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.node.nodes import close_nodes

from ..conftest import close_app
from ..support.waiting import wait_for
from . import tasks
from .conftest import running_workers


@pytest.fixture(scope="module")
def logical() -> Iterator[EmbeddedServer]:
    """A server that can publish."""
    with EmbeddedServer(settings={"wal_level": "logical"}) as server:
        with psycopg.connect(parse_url(server.url), autocommit=True) as connection:
            for name in ("publisher", "subscriber"):
                connection.execute(f"CREATE DATABASE {name}")
        for name in ("publisher", "subscriber"):
            with migrations.session(parse_url(server.database_url(name))) as session:
                migrations.migrate(session, "pgjobs")
        yield server


@pytest.fixture(params=["leaves", "roots"])
def subscriber(
    logical: EmbeddedServer, request: pytest.FixtureRequest
) -> Iterator[psycopg.Connection[Any]]:
    """Another database, into which every change goes; of a partition as its own or the whole's."""
    publisher = parse_url(logical.database_url("publisher"))
    via_root = str(request.param == "roots").lower()
    with (
        psycopg.connect(publisher, autocommit=True) as source,
        psycopg.connect(
            parse_url(logical.database_url("subscriber")), autocommit=True
        ) as connection,
    ):
        source.execute(
            "CREATE PUBLICATION everything FOR ALL TABLES "
            f"WITH (publish_via_partition_root = {via_root})"
        )
        # On one server the slot is made apart: to make it waits for the transaction that asks.
        source.execute("SELECT pg_create_logical_replication_slot('everything', 'pgoutput')")
        connection.execute("TRUNCATE pgjobs.migrations")
        connection.execute(
            f"CREATE SUBSCRIPTION everything CONNECTION '{publisher}' PUBLICATION everything "
            "WITH (create_slot = false, slot_name = everything)"
        )
        yield connection
        connection.execute("DROP SUBSCRIPTION everything")
        source.execute("DROP PUBLICATION everything")
        tables = connection.execute(
            "SELECT string_agg(relname, ', pgjobs.') FROM pg_class "
            "WHERE relnamespace = 'pgjobs'::regnamespace AND relkind IN ('r', 'p')"
        ).fetchone()
        assert tables is not None
        connection.execute(f"TRUNCATE pgjobs.{tables[0]}")


ROWS = "SELECT task_id, state, attempt, result FROM pgjobs.jobs ORDER BY task_id"
DURABLE = "SELECT id, queue FROM pgjobs.messages WHERE durable ORDER BY id"


def test_workers_and_remote_control_where_all_tables_are_published(
    logical: EmbeddedServer, subscriber: psycopg.Connection[Any], tmp_path: Path
) -> None:
    url = logical.database_url("publisher")
    app = tasks.app
    app.conf.update(broker_url=url, result_backend=url)
    with (
        psycopg.connect(parse_url(url), autocommit=True) as source,
        running_workers(url, tmp_path) as start,
    ):
        started = start(pool="threads")
        assert [tasks.add.delay(n, 1).get(timeout=20) for n in range(3)] == [1, 2, 3]
        assert chord([tasks.add.s(n, n) for n in range(3)])(tasks.tsum.s()).get(timeout=20) == 6
        for _ in range(2):
            assert app.control.ping(timeout=5)
        with app.connection_for_write() as connection:
            queue = connection.SimpleQueue("letters", queue_opts={"durable": True})
            queue.queue.exchange.type = "topic"  # no job: a row of messages
            for number in range(3):
                queue.put({"n": number})
            queue.get(timeout=20).ack()
            queue.close()
        tasks.add.apply_async((1, 2), countdown=3600)
        started.stop()
        assert "replica identity" not in started.log

        def arrived() -> bool:
            return all(
                subscriber.execute(query).fetchall() == source.execute(query).fetchall()
                for query in (ROWS, DURABLE)
            )

        wait_for(arrived, 30)
        source.execute("TRUNCATE pgjobs.messages, pgjobs.jobs")
        wait_for(arrived, 30)
        assert source.execute(ROWS).fetchall() == []
    close_app(app)
    close_nodes()  # one that has consumed letters
