"""What a process claimed is run once, and what became of it is written, whatever is cut."""

from __future__ import annotations

import os
import queue
import random
import threading
from collections import Counter

import psycopg
import pytest

from pgjobs_celery.config import Options, Settings
from pgjobs_celery.db.connection import CONNECTION_ERRORS
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.messages import NewMessage
from pgjobs_celery.job.outcome import completed, released
from pgjobs_celery.job.rows import Bucket, Claim
from pgjobs_celery.maintenance.loop import Service
from pgjobs_celery.node.node import Node
from pgjobs_celery.node.nodes import get_node
from tests.node.cuts import CELERY, claim_through_cuts, cut
from tests.support.rows import put, row, states
from tests.support.waiting import wait_for


def test_a_node_says_that_it_lives_before_it_claims(database, connection, node):
    node.configure("worker@host", Settings(heartbeat_interval=0.05))
    assert connection.execute("SELECT 1 FROM pgjobs.nodes").fetchall() == []
    put(database, "a")
    node.uses.consume("a channel", ["celery", "other"])
    node.claim_jobs([Bucket("celery"), Bucket("other")], 1)
    (found,) = connection.execute("SELECT * FROM pgjobs.nodes").fetchall()
    assert (found["node"], found["name"], found["queues"]) == (
        node.id, "worker@host", ["celery", "other"],
    )  # fmt: skip
    assert row(connection, "a")["attempted_by"] == "worker@host"
    later = "SELECT 1 FROM pgjobs.nodes WHERE heartbeat_at > %s"
    wait_for(lambda: connection.execute(later, (found["heartbeat_at"],)).fetchone())
    # And what it consumes by now.
    node.uses.consume("a channel", ["celery"])
    fewer = "SELECT 1 FROM pgjobs.nodes WHERE queues = '{celery}'"
    wait_for(lambda: connection.execute(fewer).fetchone())


def test_outcomes_go_with_the_next_claim(database, connection, node):
    put(database, "a", "b")
    (a,) = node.claim_jobs(CELERY, 1)
    node.settle(completed(a))
    assert node.unwritten == 1
    assert states(connection)["a"] == "executing"
    assert len(node.claim_jobs(CELERY, 1)) == 1
    assert node.unwritten == 0
    assert states(connection) == {"a": "completed", "b": "executing"}


def test_outcomes_are_written_by_themselves_where_no_claim_comes(database, connection):
    node = Node(database)
    put(database, "a")
    (a,) = node.claim_jobs(CELERY, 1)
    node.settle(completed(a))
    wait_for(lambda: states(connection) == {"a": "completed"})
    node.close()


def test_a_chord_is_looked_for_once_its_last_outcome_is_written(database, connection, node):
    found = []

    class Complete(Service):
        interval = 60.0

        def run(self, database: Database) -> dict[str, int]:
            found.append(states(connection)["a"])
            return {}

    node.serve_results(Complete(), node.settings)
    put(database, "a")
    (a,) = node.claim_jobs(CELERY, 1)
    with psycopg.connect(database.conninfo) as blocker:
        blocker.execute("LOCK TABLE pgjobs.jobs IN EXCLUSIVE MODE")
        claiming = threading.Thread(target=node.claim_jobs, args=(CELERY, 1))
        claiming.start()
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_for(lambda: connection.execute(blocked).fetchone())
        # Too late for the transaction that is under way.
        node.settle(completed(a))
        node.expect_chord()
    claiming.join()
    node.flush()
    assert wait_for(lambda: found) == ["completed"]


def test_outcomes_survive_a_cut_connection_in_their_order(database, connection, node):
    put(database, "a", "b", "c")
    claims = node.claim_jobs(CELERY, 3)
    for claim in claims:
        node.settle(completed(claim))
    cut(database)
    with pytest.raises(CONNECTION_ERRORS):
        node.flush()
    assert node.unwritten == 3
    assert [outcome.id for outcome in node.ledger.outcomes] == [claim.id for claim in claims]
    node.flush()
    assert node.unwritten == 0
    assert set(states(connection).values()) == {"completed"}


def test_messages_are_settled_and_put_back_with_the_rest(database, connection, node):
    for body in (b"1", b"2", b"3"):
        database.messages.insert_messages(NewMessage("{}", body, True, 0, None), ["q"])
    one, two, three = node.claim_messages(["q"], 10)
    node.settle_message(one.id)
    node.return_message(two.id)
    cut(database)
    with pytest.raises(CONNECTION_ERRORS):
        node.flush()
    node.flush()
    rows = connection.execute("SELECT id, claimed_by FROM pgjobs.messages ORDER BY id").fetchall()
    assert [(r["id"], r["claimed_by"]) for r in rows] == [(two.id, None), (three.id, node.id)]


def test_leaving_writes_what_is_due_and_takes_the_row_away(database, connection, node):
    put(database, "a", "b")
    a, b = node.claim_jobs(CELERY, 2)
    node.settle(completed(a))
    node.close()
    assert states(connection) == {"a": "completed", "b": "executing"}
    # It still holds a job: who looks after the dead must find it.
    assert len(connection.execute("SELECT 1 FROM pgjobs.nodes").fetchall()) == 1
    node.settle(released(b))
    node.close()
    assert states(connection)["b"] == "available"
    assert connection.execute("SELECT 1 FROM pgjobs.nodes").fetchall() == []


def test_leaving_without_a_connection_is_a_warning(database, node, caplog):
    put(database, "a")
    (a,) = node.claim_jobs(CELERY, 1)
    node.settle(completed(a))
    cut(database)
    node.close()
    assert "could not say goodbye to the database" in caplog.text
    assert node.unwritten == 1
    node.close()
    assert node.unwritten == 0


def test_a_process_has_one_node_in_a_database_and_its_child_another(database):
    node = get_node(database)
    assert get_node(database) is node
    assert get_node(Database(database.conninfo, Options())) is not node
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(get_node(database).id).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode() != str(node.id)
    for end in (reading, writing):
        os.close(end)


def test_through_cuts_at_any_moment_every_job_runs_once(database, connection):
    """Four threads work, one claims, and somebody ends all sessions again and again."""
    count = 400
    put(database, *(str(number) for number in range(count)))
    node = Node(database)
    todo: queue.Queue[Claim | None] = queue.Queue()
    ran: Counter[int] = Counter()
    lock = threading.Lock()
    done = threading.Event()

    def work() -> None:
        while (claim := todo.get()) is not None:
            with lock:
                ran[claim.id] += 1
            node.settle(completed(claim))

    def assassinate() -> None:
        chance = random.Random(7)
        while not done.wait(chance.uniform(0.001, 0.02)):
            cut(database)

    threads = [threading.Thread(target=work) for _ in range(4)]
    threads.append(threading.Thread(target=assassinate))
    for thread in threads:
        thread.start()
    try:
        unfinished = "SELECT count(*) FROM pgjobs.jobs WHERE finished_at IS NULL"
        for _ in range(20_000):
            for claim in claim_through_cuts(node, 7):
                todo.put(claim)
            if node.unwritten or sum(ran.values()) < count:
                continue
            if not connection.execute(unfinished).fetchone()["count"]:
                break
    finally:
        done.set()
        for _ in range(4):
            todo.put(None)
        for thread in threads:
            thread.join()
        node.close()
    assert set(states(connection).values()) == {"completed"}
    assert set(ran.values()) == {1}
    assert len(ran) == count
