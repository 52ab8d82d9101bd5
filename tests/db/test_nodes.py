"""A process that claims jobs has a row that says it lives."""

from __future__ import annotations

from uuid import UUID

from pgjobs_celery import __version__

A, B = UUID(int=1), UUID(int=2)


def rows(connection):
    found = connection.execute("SELECT * FROM pgjobs.nodes ORDER BY node").fetchall()
    return {row["node"]: row for row in found}


def test_a_heartbeat_makes_the_row_and_renews_it(database, connection):
    database.nodes.beat_node(A, "one@host", ["q", "r"], 13)
    first = rows(connection)[A]
    assert (first["name"], first["queues"], first["version"]) == (
        "one@host", ["q", "r"], __version__,
    )  # fmt: skip
    database.nodes.beat_node(A, "renamed@host", [], 13)
    second = rows(connection)[A]
    assert (second["name"], second["queues"]) == ("renamed@host", [])
    assert second["started_at"] == first["started_at"]
    assert second["heartbeat_at"] > first["heartbeat_at"]


def test_two_nodes_of_one_name_are_two_rows(database, connection):
    for node in (A, B):
        database.nodes.beat_node(node, "same@host", ['q"{'], 13)
    assert set(rows(connection)) == {A, B}
    database.nodes.delete_node(A)
    assert set(rows(connection)) == {B}
    database.nodes.delete_node(A)


def test_a_heartbeat_is_a_hot_update(database, connection):
    connection.execute("SELECT pg_stat_reset()")
    for _ in range(20):
        database.nodes.beat_node(A, "one@host", ["q"], 13)
    database.close()  # a session reports its statistics when it ends
    for _ in range(100):
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'nodes'"
        ).fetchone()
        if row["n_tup_upd"] >= 19:
            break
        connection.execute("SELECT pg_sleep(0.05)")
    assert (row["n_tup_upd"], row["n_tup_hot_upd"]) == (19, 19)
