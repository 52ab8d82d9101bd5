"""Queues that nobody can use, and messages past their time, are taken away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import kombu
import psycopg

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.messages import NewMessage
from pgjobs_celery.maintenance.reap import Reap

A = UUID(int=1)

Connection = psycopg.Connection[dict[str, Any]]


def names(connection: Connection) -> set[str]:
    return {row["name"] for row in connection.execute("SELECT name FROM pgjobs.queues")}


def test_a_queue_that_nobody_uses_goes_with_its_bindings_and_messages(
    database: Database, connection: Connection
):
    routes = database.routes
    routes.declare_exchange("x", "direct", True, False, {})
    routes.declare_queue("shared")
    for queue in ("mine", "orphan"):
        routes.declare_queue(queue, auto_delete=True, owner=A)
        routes.bind_queue("x", "key", queue)
    message = NewMessage("{}", b"", durable=False, priority=0, ttl=None)
    database.messages.publish_messages(message, "x", "key")
    assert Reap().run(database)["queues"] == 0
    connection.execute("UPDATE pgjobs.queues SET used_at = now() - interval '3 minutes'")
    routes.touch_queues(["mine"], A)
    assert Reap().run(database)["queues"] == 1
    assert names(connection) == {"shared", "mine"}
    assert [binding[0] for binding in routes.list_bindings()] == ["mine"]
    left = connection.execute("SELECT queue FROM pgjobs.messages").fetchall()
    assert left == [{"queue": "mine"}]


def test_a_queue_goes_when_it_was_not_used_for_as_long_as_it_wanted(
    database: Database, connection: Connection
):
    database.routes.declare_queue("kept", expires_after=300)
    database.routes.declare_queue("gone", expires_after=180)
    connection.execute("UPDATE pgjobs.queues SET used_at = now() - interval '181 s'")
    assert Reap().run(database)["queues"] == 1
    assert names(connection) == {"kept"}


def test_a_consumer_keeps_its_queue(
    connect: Callable[[], kombu.Connection], database: Database, connection: Connection
):
    with connect() as conn, conn.channel() as channel:
        queue = kombu.Queue("passing", expires=180, channel=channel)
        queue.declare()
        channel._touch_at = 0.0
        connection.execute("UPDATE pgjobs.queues SET used_at = now() - interval '1 hour'")
        with kombu.Consumer(channel, [queue], callbacks=[print]), suppress(TimeoutError):
            conn.drain_events(timeout=0.1)
        assert Reap().run(database)["queues"] == 0


def test_messages_past_their_time_are_deleted(database: Database, connection: Connection):
    for ttl in (0.0, 60.0, None):
        message = NewMessage("{}", b"", durable=True, priority=0, ttl=ttl)
        database.messages.insert_messages(message, ["q"])
    assert Reap().run(database)["messages"] == 1
    left = connection.execute("SELECT count(*) AS n FROM pgjobs.messages").fetchone()
    assert left == {"n": 2}
