"""What a dead node held goes back in line, or is discarded; a live node's never does."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import psycopg

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.messages import NewMessage
from pgjobs_celery.job.outcome import completed
from pgjobs_celery.job.rows import Bucket, Claim
from tests.support.rows import alive, put, row, states

A, B = UUID(int=1), UUID(int=2)

Connection = psycopg.Connection[dict[str, Any]]


def claim(
    database: Database, node: UUID = A, limit: int = 10, late: list[str] | None = None
) -> list[Claim]:
    buckets = [Bucket("celery")]
    return database.claims.claim_jobs(node, "n", buckets, limit, late=late)[0]


def silence(connection: Connection, node: UUID, seconds: float) -> None:
    """As if the node's last heartbeat had been that long ago."""
    connection.execute(
        "UPDATE pgjobs.nodes SET heartbeat_at = now() - %s * interval '1 second' WHERE node = %s",
        (seconds, node),
    )


def test_only_a_node_within_its_lease_may_claim(database: Database, connection: Connection):
    put(database, "a")
    assert claim(database) == []
    alive(database, A, lease=13)
    silence(connection, A, 13.5)
    assert claim(database) == []
    silence(connection, A, 12)
    assert len(claim(database)) == 1


def test_late_acks_go_back_in_line_and_early_acks_are_discarded(
    database: Database, connection: Connection
):
    alive(database, A, lease=13)
    put(database, "late", task="t.late")
    put(database, "early", task="t.early")
    assert len(claim(database, late=["t.late"])) == 2
    silence(connection, A, 14)
    rescue = database.claims.rescue_jobs()
    assert (rescue.nodes, rescue.returned, rescue.discarded) == (["node1"], 1, 1)
    late, early = row(connection, "late"), row(connection, "early")
    assert (late["state"], late["attempt"], late["redelivered"]) == ("available", 1, True)
    assert (early["state"], early["attempt"]) == ("discarded", 1)
    assert early["finished_at"] is not None
    for found in (late, early):
        assert found["claimed_by"] is None
        (error,) = found["errors"]
        assert (error["attempt"], error["type"]) == (1, "WorkerLostError")
        assert "node1 was lost" in error["message"]
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.nodes").fetchone() == {"n": 0}


def test_a_job_whose_attempts_are_used_up_does_not_come_back(
    database: Database, connection: Connection
):
    put(database, "a")
    connection.execute("UPDATE pgjobs.jobs SET max_attempts = 2")
    for expected in ("available", "discarded"):
        alive(database, A, lease=13)
        assert len(claim(database)) == 1
        silence(connection, A, 14)
        database.claims.rescue_jobs()
        assert states(connection) == {"a": expected}


def test_a_live_node_keeps_its_jobs(database: Database, connection: Connection):
    alive(database, A, lease=13)
    alive(database, B, lease=13)
    put(database, "a", "b")
    (a,) = claim(database, A, 1)
    claim(database, B, 1)
    silence(connection, A, 12)
    silence(connection, B, 14)
    database.claims.rescue_jobs()
    assert states(connection) == {"a": "executing", "b": "available"}
    assert database.claims.settle_jobs(A, [completed(a)]) == []


def test_who_was_taken_for_dead_changes_nothing_any_more(
    database: Database, connection: Connection
):
    alive(database, A, lease=13)
    put(database, "a")
    (a,) = claim(database)
    silence(connection, A, 14)
    database.claims.rescue_jobs()
    alive(database, B, lease=13)
    (again,) = claim(database, B)
    outcome = completed(a)
    assert database.claims.settle_jobs(A, [outcome]) == [outcome]
    assert states(connection) == {"a": "executing"}
    assert database.claims.settle_jobs(B, [completed(again)]) == []


def test_messages_of_the_dead_are_delivered_again(database: Database, connection: Connection):
    alive(database, A, lease=13)
    message = NewMessage("{}", b"", durable=True, priority=0, ttl=None)
    database.messages.insert_messages(message, ["mail"])
    assert len(database.messages.claim_messages(A, ["mail"], 1)) == 1
    silence(connection, A, 14)
    database.claims.rescue_jobs()
    (again,) = database.messages.take_messages(["mail"], 1)
    assert again.redelivered


def test_several_rescuers_at_once_rescue_each_job_once(database: Database, connection: Connection):
    alive(database, A, lease=13)
    put(database, *map(str, range(200)))
    assert len(claim(database, limit=200)) == 200
    silence(connection, A, 14)
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(database.claims.rescue_jobs().returned))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 200
    found = connection.execute("SELECT DISTINCT state, attempt FROM pgjobs.jobs").fetchall()
    assert found == [{"state": "available", "attempt": 1}]


def test_a_claim_in_flight_keeps_the_rescuer_off(
    database: Database, connection: Connection, url: str
):
    """Its transaction holds a lock on its node's row: the node is not dead while it does."""
    alive(database, A, lease=13)
    with connection.transaction():
        connection.execute("SELECT FROM pgjobs.nodes WHERE node = %s FOR KEY SHARE", (A,))
        with psycopg.connect(database.conninfo, autocommit=True) as other:
            other.execute(
                "UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '1 hour' WHERE node = %s",
                (A,),
            )
        assert database.claims.rescue_jobs().nodes == []
    assert database.claims.rescue_jobs().nodes == ["node1"]
