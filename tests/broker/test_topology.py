from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import kombu
import pytest
from kombu import Exchange, Queue
from kombu.exceptions import ChannelError
from kombu.pidbox import Mailbox

from pgjobs_celery.db.database import Database

from ..conftest import Connection
from ..support.celery_process import run_celery
from ..support.consumers import (
    consuming,
    count_states,
    drain,
    get_row,
    get_rows,
    is_quiet,
    publish_task,
    publish_tasks,
)


def declare(broker: kombu.Connection, exchange: Exchange, **queues: str) -> None:
    for name, key in queues.items():
        Queue(name, exchange, routing_key=key)(broker.default_channel).declare()


def put(connection: Connection) -> list[str]:
    """The queues of the messages that were published, which are then removed."""
    rows = connection.execute("DELETE FROM pgjobs.messages RETURNING queue").fetchall()
    return sorted(row["queue"] for row in rows)


# Routing


def test_a_direct_exchange_compares_the_key(broker: kombu.Connection, connection: Connection):
    exchange = Exchange("x", "direct")
    declare(broker, exchange, one="k", two="k", three="K", four="")
    for key, queues in {"k": ["one", "two"], "K": ["three"], "": ["four"], "*": []}.items():
        broker.Producer().publish({}, exchange=exchange, routing_key=key)
        assert put(connection) == queues


def test_a_fanout_exchange_ignores_the_key(broker: kombu.Connection, connection: Connection):
    exchange = Exchange("x", "fanout")
    declare(broker, exchange, one="k", two="")
    broker.Producer().publish({}, exchange=exchange, routing_key="whatever")
    assert put(connection) == ["one", "two"]


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "axb", "A.b"]),
        ("a.*", ["a.b", "a.b-c"], ["a", "a.b.c", "b.a"]),
        ("*", ["a", "a b"], ["a.b", ""]),
        ("#", ["", "a", "a.b.c"], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["ab", "b.a", ""]),
        ("#.z", ["z", "a.z", "a.b.z"], ["z.a", "az"]),
        ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "az"]),
        ("a.*.z", ["a.b.z"], ["a.z", "a.b.c.z"]),
        ("*.#", ["a", "a.b"], [""]),
        ("#.#", ["", "a", "a.b"], []),
        ("#.*.b", ["a.b", "x.a.b"], ["b"]),
        ("a+.(b)|c$", ["a+.(b)|c$"], ["aa.b", "c", "a+.b"]),
        ("ü.\\d", ["ü.\\d"], ["ü.1"]),
    ],
)
def test_a_topic_exchange_knows_amqps_wildcards(
    broker: kombu.Connection,
    connection: Connection,
    pattern: str,
    matches: list[str],
    others: list[str],
):
    exchange = Exchange("x", "topic")
    declare(broker, exchange, q=pattern)
    producer = broker.Producer()
    for key in (*matches, *others):
        producer.publish(key, exchange=exchange, routing_key=key, serializer="json")
    assert [bytes(row["body"]).decode() for row in get_rows(connection, "messages")] == [
        producer._prepare(key, "json")[0] for key in matches
    ]


def test_a_queue_bound_twice_gets_one_copy(broker: kombu.Connection, connection: Connection):
    exchange = Exchange("x", "topic")
    declare(broker, exchange, q="#")
    declare(broker, exchange, q="a.*")
    broker.Producer().publish({}, exchange=exchange, routing_key="a.b")
    assert put(connection) == ["q"]


def test_a_binding_of_one_connection_counts_for_another_at_once(
    connect: Callable[..., kombu.Connection], connection: Connection
):
    one, two = connect(), connect()
    exchange = Exchange("x", "direct")
    producer = two.Producer(exchange=exchange)
    producer.publish({}, routing_key="k")
    assert put(connection) == []
    queue = Queue("q", exchange, routing_key="k")(one.default_channel)
    queue.declare()
    producer.publish({}, routing_key="k")
    assert put(connection) == ["q"]
    assert ("q", "x", "k") in two.default_channel.get_bindings()
    queue.unbind_from(exchange, "k")
    producer.publish({}, routing_key="k")
    assert put(connection) == []


@pytest.mark.parametrize("either", ["pgjobs", pytest.param("redis", marks=pytest.mark.peer)])
def test_celery_lists_the_bindings(
    either: str, url: str, request: pytest.FixtureRequest, tmp_path: Path
):
    broker = url if either == "pgjobs" else request.getfixturevalue("redis_url")
    with kombu.Connection(broker) as connection:
        exchange = Exchange("bindings-x", "topic")
        Queue("bindings-q", exchange, routing_key="a.#")(connection.default_channel).declare()
        done = run_celery("-b", broker, "list", "bindings", cwd=tmp_path)
        Queue("bindings-q", exchange)(connection.default_channel).delete()
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.split() for line in done.stdout.splitlines()]
    assert ["Queue", "Exchange", "Routing", "Key"] in found
    if either == "pgjobs":  # Redis shows those of the process itself only
        assert ["bindings-q", "bindings-x", "a.#"] in found
    assert ["celery", "celery", "celery"] in found


def test_a_deleted_exchange_routes_nothing(broker: kombu.Connection, connection: Connection):
    exchange = Exchange("x", "fanout")
    declare(broker, exchange, q="")
    exchange(broker.default_channel).delete()
    broker.Producer().publish({}, exchange="x")
    assert put(connection) == []
    with pytest.raises(ChannelError, match="404"):
        broker.default_channel.exchange_declare("x", passive=True)


def test_an_exchange_of_another_type_is_refused(broker: kombu.Connection):
    channel = broker.default_channel
    channel.exchange_declare("x", "topic")
    channel.exchange_declare("x", "topic")
    channel.exchange_declare("x", passive=True)
    with pytest.raises(ChannelError, match="'x' is there, and of type topic, not fanout"):
        channel.exchange_declare("x", "fanout")


def test_an_exchange_type_that_nobody_knows_is_refused(
    broker: kombu.Connection, connection: Connection
):
    with pytest.raises(ChannelError, match="headers"):
        broker.default_channel.exchange_declare("x", "headers")
    assert not get_rows(connection, "exchanges")


# Count


def test_a_passive_declaration_finds_what_is_there_and_counts_what_is_ready(
    broker: kombu.Connection, connection: Connection
):
    channel = broker.default_channel
    with pytest.raises(ChannelError, match="404 no queue 'q'") as raised:
        channel.queue_declare("q", passive=True)
    assert raised.value.code == 404
    assert not get_rows(connection, "queues")
    channel.queue_declare("q")
    assert channel.queue_declare("q", passive=True) == ("q", 0, 0)
    publish_tasks(broker, 3)
    publish_task(broker, headers={"eta": "2100-01-01T00:00:00+00:00"})
    publish_task(broker, "other")
    broker.Producer().publish({}, routing_key="q")
    assert channel.queue_declare("q", passive=True).message_count == 4
    message = channel.basic_get("q")
    assert message is not None
    assert channel.queue_declare("q", passive=True).message_count == 3
    message.ack()
    assert channel.queue_declare("q", passive=True).message_count == 3


def test_any_declaration_tells_what_is_ready_and_who_consumes(
    broker: kombu.Connection, database: Database
):
    channel = broker.default_channel
    publish_tasks(broker, 3)
    database.nodes.beat_node(UUID(int=1), "worker", ["q"], 13)
    declared = Queue("q")(channel).queue_declare()
    assert declared.message_count == 3
    answer = channel.queue_declare("q")
    assert (answer.queue, answer.message_count, answer.consumer_count) == ("q", 3, 1)
    assert (answer[0], answer[1], answer[-1], answer[:2]) == ("q", 3, 1, ("q", 3))
    name, count, consumers = answer
    assert (name, count, consumers) == tuple(answer) == ("q", 3, 1)
    assert answer == ("q", 3, 1)
    assert answer == channel.queue_declare("q", passive=True)
    assert answer != ("q", 0, 0)
    assert repr(answer) == "queue_declare_ok_t(queue='q', message_count=3, consumer_count=1)"
    # Where a tuple's own methods would read what it was made of.
    assert ("q", 2, 9) < answer < ("q", 3, 2)
    assert ("q", 3, 1) <= answer <= ("q", 3, 1)
    assert (3 in answer, 0 in answer, answer.count(3), answer.index(1)) == (True, False, 1, 2)
    assert answer + (0,) == ("q", 3, 1, 0)  # noqa: RUF005
    assert (0,) + answer == (0, "q", 3, 1)  # noqa: RUF005
    assert answer._replace(queue="other") == ("other", 3, 1)
    assert answer._asdict() == {"queue": "q", "message_count": 3, "consumer_count": 1}
    assert pickle.loads(pickle.dumps(answer)) == copy.copy(answer) == ("q", 3, 1)
    publish_tasks(broker, 1)
    assert channel.queue_declare("q").message_count == 4


def test_a_declaration_counts_nothing_before_somebody_reads_it(
    broker: kombu.Connection, connection: Connection
):
    channel = broker.default_channel
    with connection.transaction():
        connection.execute("LOCK TABLE pgjobs.jobs")
        with ThreadPoolExecutor(1) as pool:
            # To count would wait for the lock.
            answer = pool.submit(channel.queue_declare, "q").result(timeout=5)
            assert pool.submit(lambda: answer.queue).result(timeout=5) == "q"
    assert answer.message_count == 0


def test_a_passive_declaration_counts_the_live_processes_that_consume(
    broker: kombu.Connection, connection: Connection, database: Database
):
    channel = broker.default_channel
    channel.queue_declare("q")
    channel.queue_declare("other")
    for number, queues in enumerate([["q"], ["other", "q"], ["other"]]):
        database.nodes.beat_node(UUID(int=number), "worker", queues, 13)
    assert channel.queue_declare("q", passive=True).consumer_count == 2
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '14 seconds'")
    assert channel.queue_declare("q", passive=True).consumer_count == 0


def test_a_queue_without_a_name_gets_one(broker: kombu.Connection, connection: Connection):
    names = {broker.default_channel.queue_declare().queue for _ in range(2)}
    assert len(names) == 2
    assert {row["name"] for row in get_rows(connection, "queues")} == names


def test_an_argument_that_changes_nothing_is_named_once(
    broker: kombu.Connection, caplog: pytest.LogCaptureFixture
):
    for _ in range(2):
        arguments = {"x-dead-letter-exchange": "dlx", "x-max-priority": 10}
        broker.channel().queue_declare("with-a-dlx", arguments=arguments)
    (warning,) = caplog.messages
    assert "'with-a-dlx': x-dead-letter-exchange is not used here: what is rejected" in warning


# Purge and delete


def test_a_purge_cancels_what_waits_and_leaves_what_is_claimed(
    broker: kombu.Connection, connection: Connection
):
    channel = broker.default_channel
    claimed = publish_task(broker, id="claimed")
    assert channel.basic_get("q") is not None
    publish_tasks(broker, 5)
    publish_task(broker, "other", id="other")
    for _ in range(2):
        broker.Producer().publish({}, routing_key="q")
    assert channel.queue_purge("q") == 7
    assert channel.queue_purge("q") == 0
    assert count_states(connection) == {"cancelled": 5, "executing": 1, "available": 1}
    assert get_row(connection, claimed)["state"] == "executing"
    assert not get_rows(connection, "messages")
    for row in get_rows(connection, where="state = 'cancelled'"):
        (error,) = row["errors"]
        assert (error["type"], error["message"]) == ("Purged", "the queue was purged")
        assert row["finished_at"]


def test_purging_until_nothing_is_left_ends(broker: kombu.Connection, connection: Connection):
    channel = broker.default_channel
    publish_tasks(broker, 10)
    total = 0
    while count := channel.queue_purge("q"):
        total += count
    assert total == 10
    assert channel.queue_declare("q").queue == "q"
    assert channel.queue_declare("q", passive=True).message_count == 0
    with consuming(broker) as inbox:
        assert is_quiet(broker)
    assert not inbox


def test_a_queue_in_use_or_not_empty_is_kept_where_that_is_asked(
    broker: kombu.Connection, connection: Connection
):
    queue = Queue("q")(broker.default_channel)
    queue.declare()
    id = publish_task(broker)
    with pytest.raises(ChannelError, match=r"406.*not empty"):
        queue.delete(if_empty=True)
    with (
        kombu.Consumer(broker.default_channel, [queue]),
        pytest.raises(ChannelError, match=r"406.*in use"),
    ):
        queue.delete(if_unused=True)
    assert get_rows(connection, "queues", "name = 'q'")
    queue.delete(if_unused=True)
    assert not get_rows(connection, "queues")
    assert get_row(connection, id)["state"] == "cancelled"


def test_a_queue_whose_jobs_have_to_wait_is_not_empty(
    broker: kombu.Connection, connection: Connection
):
    queue = Queue("q")(broker.default_channel)
    queue.declare()
    id = publish_task(broker, headers={"eta": "2100-01-01T00:00:00+00:00"})
    with pytest.raises(ChannelError, match=r"406.*not empty"):
        queue.delete(if_empty=True)
    assert get_row(connection, id)["state"] == "scheduled"


def test_a_deleted_queue_takes_its_bindings_and_messages_along(
    broker: kombu.Connection, connection: Connection
):
    exchange = Exchange("x", "fanout")
    declare(broker, exchange, one="", two="")
    broker.Producer().publish({}, exchange=exchange)
    assert Queue("one")(broker.default_channel).delete() == 1
    assert put(connection) == ["two"]
    assert [row["queue"] for row in get_rows(connection, "bindings")] == ["two"]


@pytest.mark.parametrize("kind", ["auto_delete", "exclusive"])
def test_a_queue_that_vanishes_takes_its_bindings_and_messages_along(
    broker: kombu.Connection, connect: Callable[..., Any], connection: Connection, kind: str
):
    exchange = Exchange("x", "fanout")
    Queue("stays", exchange)(broker.default_channel).declare()
    owner = connect()
    with consuming(owner, Queue("goes", exchange, **{kind: True}), prefetch=1) as inbox:
        for _ in range(3):
            broker.Producer().publish({}, exchange=exchange)
        drain(owner, inbox, 1)
    assert [row["name"] for row in get_rows(connection, "queues")] == ["stays"]
    assert [row["queue"] for row in get_rows(connection, "bindings")] == ["stays"]
    assert put(connection) == 3 * ["stays"]


def test_remote_control_is_answered_and_leaves_no_queue_behind(
    connect: Callable[..., kombu.Connection], connection: Connection
):
    server, client = connect(), connect()
    mailbox = Mailbox("tests", type="fanout", accept=["json"])
    node = mailbox(server).Node("node", state={}, handlers={"ping": lambda state: "pong"})
    asking = mailbox(client)
    channel = client.default_channel
    with server.channel() as node.channel, node.listen(node.channel):
        asking.reply_queue(channel).declare()
        asking._publish("ping", {}, reply_ticket="ticket", channel=channel)
        server.drain_events(timeout=5)
        assert asking._collect("ticket", limit=1, timeout=5, channel=channel) == [{"node": "pong"}]
    client.release()
    assert not get_rows(connection, "queues")
    assert not get_rows(connection, "messages")


def test_a_declaration_by_twenty_threads_at_once_succeeds(
    connect: Callable[..., kombu.Connection], connection: Connection
):
    broker = connect()
    exchange = Exchange("x", "direct")

    def declare_all(_: int) -> None:
        channel = broker.channel()
        Queue("q", exchange, routing_key="k")(channel).declare()

    broker.connect()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(declare_all, range(20)))
    assert len(get_rows(connection, "bindings")) == 1
