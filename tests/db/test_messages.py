"""What is not a job: one copy a queue, read once, gone when it is acknowledged or too old."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.claims import Pending
from pgjobs_celery.db.rows.messages import Delivery, NewMessage, Routed

A, B = UUID(int=1), UUID(int=2)


def message(
    body: bytes = b"", *, durable: bool = True, priority: int = 0, ttl: float | None = None
):
    return NewMessage('{"headers": {}}', body, durable, priority, ttl)


def insert(database: Database, *bodies: bytes, queue: str = "q", **values) -> None:
    for body in bodies:
        database.messages.insert_messages(message(body, **values), [queue])


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def acknowledge(database: Database, *ids: int, node: UUID = A) -> None:
    database.claims.turn(node, Pending(read=ids))


def give_back(database: Database, *ids: int, node: UUID = A) -> None:
    database.claims.turn(node, Pending(returned=ids))


@pytest.mark.parametrize("durable", [True, False])
def test_a_message_comes_as_it_went_and_once(database, durable):
    every = bytes(range(256))
    insert(database, every, durable=durable)
    (delivery,) = database.messages.take_messages(["q"], 10)
    assert delivery[1:] == ("q", False, '{"headers": {}}', every)
    assert database.messages.take_messages(["q"], 10) == []


def test_each_queue_gets_a_copy(database, connection):
    database.messages.insert_messages(message(b"x"), ["a", "b", 'c"{'])
    assert bodies(database.messages.take_messages(["a"], 10)) == [b"x"]
    assert bodies(database.messages.take_messages(["b", 'c"{'], 10)) == [b"x", b"x"]
    assert database.messages.take_messages([], 10) == []


@pytest.mark.parametrize("way", ["take", "claim"])
def test_messages_come_by_priority_and_then_in_the_order_of_their_coming(database, way):
    for body, priority in ((b"1", 5), (b"2", 0), (b"3", 5), (b"4", 9), (b"5", 0)):
        insert(database, body, priority=priority, durable=body != b"3")

    def get(limit: int) -> list[bytes]:
        if way == "take":
            return bodies(database.messages.take_messages(["q"], limit))
        return bodies(database.messages.claim_messages(A, ["q"], limit))

    assert get(3) == [b"2", b"5", b"1"]
    assert get(3) == [b"3", b"4"]


def test_a_claimed_message_is_its_nodes_until_it_acknowledges(database, connection):
    insert(database, b"1", b"2")
    first, second = database.messages.claim_messages(A, ["q"], 10)
    assert database.messages.claim_messages(B, ["q"], 10) == []
    assert database.messages.take_messages(["q"], 10) == []
    acknowledge(database, first.id, node=B)
    assert connection.execute("SELECT count(*) FROM pgjobs.messages").fetchone()["count"] == 2
    acknowledge(database, first.id, second.id)
    assert connection.execute("SELECT count(*) FROM pgjobs.messages").fetchone()["count"] == 0


def test_a_message_that_is_put_back_is_redelivered_first(database):
    insert(database, b"1", b"2")
    (first,) = database.messages.claim_messages(A, ["q"], 1)
    give_back(database, first.id, node=B)
    assert bodies(database.messages.claim_messages(B, ["q"], 1)) == [b"2"]
    give_back(database, first.id)
    (again,) = database.messages.claim_messages(B, ["q"], 1)
    assert (again.body, again.redelivered) == (b"1", True)
    # Too late: it is somebody else's now.
    acknowledge(database, first.id)
    acknowledge(database, again.id, node=B)
    assert database.messages.claim_messages(A, ["q"], 10) == []


def test_what_a_node_claimed_without_learning_of_it_goes_back(database):
    insert(database, b"known", b"unknown", b"others")
    known, _ = database.messages.claim_messages(A, ["q"], 2)
    database.messages.claim_messages(B, ["q"], 1)
    database.messages.release_unknown_messages(A, [known.id])
    (again,) = database.messages.claim_messages(A, ["q"], 10)
    assert (again.body, again.redelivered) == (b"unknown", False)


@pytest.mark.parametrize("way", ["take", "claim"])
def test_a_message_that_is_too_old_is_not_delivered(database, connection, way):
    insert(database, b"old", ttl=100)
    insert(database, b"new", ttl=100)
    connection.execute(
        "UPDATE pgjobs.messages SET expires_at = now() - interval '1 s' WHERE body = 'old'"
    )
    assert database.jobs.count_ready("q") == 1
    if way == "take":
        assert bodies(database.messages.take_messages(["q"], 10)) == [b"new"]
    else:
        assert bodies(database.messages.claim_messages(A, ["q"], 10)) == [b"new"]


def test_the_queues_time_to_live_holds_where_the_message_names_none_or_a_longer_one(
    database, connection
):
    database.routes.declare_queue("short", message_ttl=10.0)
    database.routes.declare_queue("q")
    for ttl in (None, 100.0, 1.0):
        database.messages.insert_messages(message(b"%r" % ttl, ttl=ttl), ["short", "q"])
    rows = connection.execute(
        "SELECT queue, body, extract(epoch FROM expires_at - inserted_at)::float8 AS ttl "
        "FROM pgjobs.messages"
    ).fetchall()
    assert {(row["queue"], bytes(row["body"]).decode()): row["ttl"] for row in rows} == {
        ("short", "None"): 10.0, ("short", "100.0"): 10.0, ("short", "1.0"): 1.0,
        ("q", "None"): None, ("q", "100.0"): 100.0, ("q", "1.0"): 1.0,
    }  # fmt: skip


def test_purging_deletes_what_nobody_has_claimed(database):
    insert(database, b"1", b"2", b"3")
    insert(database, b"x", queue="other")
    (claimed,) = database.messages.claim_messages(A, ["q"], 1)
    assert database.messages.purge_messages("q") == 2
    assert database.messages.purge_messages("q") == 0
    give_back(database, claimed.id)
    assert bodies(database.messages.take_messages(["q", "other"], 10)) == [b"1", b"x"]


def test_publishing_routes_and_inserts_in_one_statement(database):
    routes = database.routes
    routes.declare_exchange("events", "topic", True, False, {})
    for queue, key in (("all", "#"), ("tasks", "task.*"), ("twice", "task.#"), ("twice", "#.sent")):
        routes.bind_queue("events", key, queue)
    publish = database.messages.publish_messages
    assert publish(message(b"1"), "events", "task.sent") == 3
    assert publish(message(b"2"), "events", "worker.online") == 1
    assert publish(message(b"3"), "nowhere", "task.sent") == 0
    assert bodies(database.messages.take_messages(["tasks", "twice"], 10)) == [b"1", b"1"]
    assert bodies(database.messages.take_messages(["all"], 10)) == [b"1", b"2"]


def test_every_message_is_announced_to_who_listens(database):
    listener = database.listen_for_work()
    try:
        database.messages.insert_messages(message(), ["a", "b"])
        assert listener.wait(5) | listener.wait(0.2) == {"ma", "mb"}
        claimed = database.messages.claim_messages(A, ["a"], 1)
        give_back(database, claimed[0].id)
        assert listener.wait(5) == {"ma"}
    finally:
        listener.close()


def test_events_have_one_word_for_all_queues_that_go_with_their_listeners(database):
    database.routes.declare_exchange("events", "topic", True, False, {})
    for queue, is_passing in (("a", True), ("b", True), ("kept", False)):
        database.routes.declare_queue(queue, auto_delete=is_passing)
        database.routes.bind_queue("events", "#", queue)
    event = Routed(message(), "events", "worker.heartbeat")
    listener = database.listen_for_work()
    try:
        assert database.messages.publish_events([event, event]) == [3, 3]
        assert listener.wait(5) | listener.wait(0.2) == {"v", "mkept"}
        # A message of another kind to the same exchange is for each of them.
        assert database.messages.publish_messages(*event) == 3
        assert listener.wait(5) | listener.wait(0.2) == {"ma", "mb", "mkept"}
    finally:
        listener.close()
    assert len(database.messages.take_messages(["a", "b", "kept"], 10)) == 9


def test_many_who_read_at_once_get_each_message_once(database):
    insert(database, *(b"%d" % number for number in range(200)))
    barrier = threading.Barrier(4)

    def read(number: int) -> list[bytes]:
        node, read = UUID(int=number + 10), []
        barrier.wait()
        while True:
            if number % 2:
                got = database.messages.take_messages(["q"], 7)
            else:
                got = database.messages.claim_messages(node, ["q"], 7)
                acknowledge(database, *(one.id for one in got), node=node)
            if not got:
                return read
            read += bodies(got)

    with ThreadPoolExecutor(4) as pool:
        read_by_all = [body for read_by_one in pool.map(read, range(4)) for body in read_by_one]
    assert sorted(read_by_all) == sorted(b"%d" % number for number in range(200))


def test_what_is_transient_is_lost_in_a_crash_and_what_is_durable_is_not(connection):
    rows = connection.execute(
        "SELECT relname, relpersistence::text AS kept FROM pg_class "
        "WHERE relname IN ('messages_durable', 'messages_transient')"
    ).fetchall()
    assert {row["relname"]: row["kept"] for row in rows} == {
        "messages_durable": "p", "messages_transient": "u",
    }  # fmt: skip
