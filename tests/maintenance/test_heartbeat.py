"""A worker says that it is alive from a thread of its own."""

from __future__ import annotations

from uuid import UUID

import psycopg

from pgjobs_celery.db.rows.nodes import About
from pgjobs_celery.maintenance.heartbeat import Heartbeat
from pgjobs_celery.maintenance.loop import Loop
from tests.support.waiting import wait_for

NODE, OTHER = UUID(int=1), UUID(int=2)


def beating(describe=lambda: ("name", [], 0), interval=2.0, lease=13.0, on_dead=lambda: None):
    return Heartbeat(NODE, describe, interval, lease, on_dead)


def rows(connection):
    return connection.execute("SELECT * FROM pgjobs.nodes").fetchall()


def test_each_beat_writes_what_the_worker_is_by_then(database, connection):
    queues = ["a"]
    heartbeat = beating(lambda: ("name", sorted(queues), 0), interval=3.0)
    assert heartbeat.next_delay() == 3.0
    assert heartbeat.run(database) == {}
    queues.append("b")
    heartbeat.run(database)
    (row,) = rows(connection)
    assert (row["node"], row["name"], row["queues"]) == (NODE, "name", ["a", "b"])
    assert row["heartbeat_at"] > row["started_at"]


def test_what_the_worker_is_goes_out_when_it_changes_or_the_row_lacks_it(database, connection):
    def told(sent):
        connection.execute("UPDATE pgjobs.nodes SET details = '{\"pid\": 0}'")
        heartbeat.run(database)
        (row,) = rows(connection)
        assert (row["details"] != {"pid": 0}) is sent
        return row["details"], row["tasks"]

    about = [About({"pid": 1}, ("a",))]
    heartbeat = Heartbeat(NODE, lambda: ("n", [], 0), 2.0, 13.0, int, about=lambda: about[0])
    assert told(sent=True) == ({"pid": 1}, ["a"])
    told(sent=False)
    about[0] = About({"pid": 1, "slots": 3})
    assert told(sent=True) == ({"pid": 1, "slots": 3}, None)
    connection.execute("DELETE FROM pgjobs.nodes")
    heartbeat.run(database)  # makes the row, and hears what it lacks
    heartbeat.run(database)
    assert rows(connection)[0]["details"] == {"pid": 1, "slots": 3}


def test_a_worker_that_was_taken_for_dead_is_there_again_with_its_next_beat(database, connection):
    heartbeat = beating(interval=3.0)
    heartbeat.run(database)
    connection.execute("DELETE FROM pgjobs.nodes")
    heartbeat.run(database)
    assert len(rows(connection)) == 1


def test_beats_go_on_after_the_connection_was_cut(database, connection):
    loop = Loop(database)
    loop.add(beating(interval=0.02))
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


def test_a_worker_knows_when_others_may_take_it_for_dead(database):
    heartbeat = beating(lease=0.2)
    assert heartbeat.is_overdue
    heartbeat.run(database)
    assert not heartbeat.is_overdue
    wait_for(lambda: heartbeat.is_overdue, 2)


def silence(connection, node, seconds):
    connection.execute(
        "UPDATE pgjobs.nodes SET heartbeat_at = now() - %s * interval '1 second' WHERE node = %s",
        (seconds, node),
    )


def test_a_worker_hears_of_the_dead_only_once_it_has_lived_for_a_while(database, connection):
    told = []
    heartbeat = beating(on_dead=lambda: told.append(1))
    database.nodes.beat_node(OTHER, "other", [], 13)
    silence(connection, OTHER, 14)
    heartbeat.run(database)
    assert not told
    connection.execute(
        "UPDATE pgjobs.nodes SET steady_since = now() - interval '6 s' WHERE node = %s", (NODE,)
    )
    heartbeat.run(database)
    assert told


def test_a_worker_that_was_cut_off_itself_calls_nobody_dead(database, connection):
    """After an outage everybody has been silent; who comes back first must not bury the others."""
    told = []
    heartbeat = beating(on_dead=lambda: told.append(1))
    heartbeat.run(database)
    database.nodes.beat_node(OTHER, "other", [], 13)
    connection.execute("UPDATE pgjobs.nodes SET steady_since = now() - interval '1 hour'")
    for node in (NODE, OTHER):
        silence(connection, node, 20)
    heartbeat.run(database)
    assert not told
    (mine,) = [row for row in rows(connection) if row["node"] == NODE]
    assert mine["steady_since"] == mine["heartbeat_at"]


def test_a_worker_within_its_own_longer_lease_is_not_dead(database, connection):
    told = []
    heartbeat = beating(on_dead=lambda: told.append(1))
    heartbeat.run(database)
    database.nodes.beat_node(OTHER, "patient", [], 60)
    silence(connection, OTHER, 50)
    connection.execute(
        "UPDATE pgjobs.nodes SET steady_since = now() - interval '6 s' WHERE node = %s", (NODE,)
    )
    heartbeat.run(database)
    assert not told
