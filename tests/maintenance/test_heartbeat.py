"""A worker says that it is alive from a thread of its own."""

from __future__ import annotations

from uuid import UUID

import psycopg

from pgjobs_celery.maintenance.heartbeat import Heartbeat
from pgjobs_celery.maintenance.loop import Loop
from tests.waiting import wait_for

NODE = UUID(int=1)


def rows(connection):
    return connection.execute("SELECT * FROM pgjobs.nodes").fetchall()


def test_each_beat_writes_what_the_worker_is_by_then(database, connection):
    queues = ["a"]
    heartbeat = Heartbeat(NODE, lambda: ("name", sorted(queues)), 3.0)
    assert heartbeat.next_delay() == 3.0
    assert heartbeat.run(database) == {}
    queues.append("b")
    heartbeat.run(database)
    (row,) = rows(connection)
    assert (row["node"], row["name"], row["queues"]) == (NODE, "name", ["a", "b"])
    assert row["heartbeat_at"] > row["started_at"]


def test_a_worker_that_was_taken_for_dead_is_there_again_with_its_next_beat(database, connection):
    heartbeat = Heartbeat(NODE, lambda: ("name", []), 3.0)
    heartbeat.run(database)
    connection.execute("DELETE FROM pgjobs.nodes")
    heartbeat.run(database)
    assert len(rows(connection)) == 1


def test_beats_go_on_after_the_connection_was_cut(database, connection):
    loop = Loop(database)
    loop.add(Heartbeat(NODE, lambda: ("name", []), 0.02))
    try:
        wait_for(lambda: rows(connection))
        with psycopg.connect(database.conninfo, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'pgjobs-celery' AND datname = current_database()"
            )
        connection.execute("DELETE FROM pgjobs.nodes")
        wait_for(lambda: rows(connection))
    finally:
        loop.stop()
