"""Lost connections and restarts of the server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import kombu
import psycopg
import pytest
from kombu import Consumer, Queue
from kombu.message import Message
from kombu.mixins import ConsumerMixin

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.failures import connection_failed
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.node.nodes import get_node

from ..conftest import Connection
from ..support.consumers import (
    backends,
    consuming,
    count_states,
    drain,
    drain_until_quiet,
    get_rows,
    is_quiet,
    publish_task,
    publish_tasks,
)
from ..support.proxies import Proxy
from ..support.waiting import wait_for

Connect = Callable[..., kombu.Connection]

POLICY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.2}


def cut_all(connection: Connection) -> None:
    """Terminate every session of this package."""
    pids = backends(connection)
    connection.execute("SELECT pg_terminate_backend(unnest(%s::int[]))", [pids])
    wait_for(lambda: not {*pids} & {*backends(connection)})


def fill_pool(broker: kombu.Connection, count: int = 6) -> None:
    """Leave that many idle connections in the pool."""
    barrier = threading.Barrier(count)

    def hold(_: int) -> None:
        with broker.transport.database.connection():
            barrier.wait(5)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(hold, range(count)))


# Cut connections


def test_a_producer_with_retries_does_not_notice_that_its_connections_were_cut(
    broker: kombu.Connection, connection: Connection
):
    producer = broker.Producer()
    for number in range(3):
        fill_pool(broker)
        cut_all(connection)
        if number < 2:
            headers = {"task": "t", "id": f"job-{number}"} if number else {}
            producer.publish({}, routing_key="q", headers=headers, retry=True, retry_policy=POLICY)
        else:
            # A job is tried again without being asked to.
            publish_task(broker, id="job-2")
    assert len(get_rows(connection, "messages")) == 1
    assert [row["task_id"] for row in get_rows(connection)] == ["job-1", "job-2"]


def test_a_job_that_is_sent_again_when_it_has_run_meanwhile_does_not_run_again(
    broker: kombu.Connection, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """A failover cuts off the answer, and takes long enough for a worker to be there first."""
    run = Database.run
    cut, refused = iter([True]), iter([True, True])

    def run_and_cut(self: Database, *transactions: Any) -> Any:
        if transactions[0][0].prepared.name not in (b"insert_new_job", b"insert_job"):
            return run(self, *transactions)
        if count_states(connection) and next(refused, False):
            raise connection_failed(psycopg.OperationalError("starting up"), self.conninfo)
        rows = run(self, *transactions)
        if next(cut, False):
            connection.execute("UPDATE pgjobs.jobs SET state = 'completed', finished_at = now()")
            raise psycopg.OperationalError("cut off")
        return rows

    monkeypatch.setattr(Database, "run", run_and_cut)
    publish_task(broker, id="job", retry=True, retry_policy=POLICY)
    assert next(refused, None) is None  # kombu has tried it again, and not only we
    assert count_states(connection) == {"completed": 1}
    # Published anew after that, it runs anew.
    monkeypatch.setattr(Database, "run", run)
    publish_task(broker, id="job")
    assert count_states(connection) == {"available": 1}


def test_a_declaration_that_is_cut_off_is_tried_again_on_a_new_channel(
    broker: kombu.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kombu looks at the closed channel's connection, and must not find one there."""
    run = Database.run
    cuts = iter([True, True])

    def run_or_cut(self: Database, *transactions: Any) -> Any:
        if transactions[0][0].prepared.name == b"declare_exchange" and next(cuts, False):
            raise psycopg.OperationalError("cut off")
        return run(self, *transactions)

    monkeypatch.setattr(Database, "run", run_or_cut)
    exchange = kombu.Exchange("orders", type="topic")
    broker.Producer().publish(
        {}, exchange=exchange, declare=[exchange], retry=True, retry_policy=POLICY
    )


def test_connecting_finds_out_that_the_pooled_connections_were_cut(
    connect: Connect, connection: Connection
):
    one = connect()
    one.connect()
    fill_pool(one)
    cut_all(connection)
    two = connect()
    two.connect()
    two.Producer().publish({}, routing_key="q")
    with consuming(two, ack=True) as inbox:
        drain(two, inbox, 1)


@pytest.mark.parametrize("how", ["release", "collect"])
def test_what_a_lost_connection_had_claimed_comes_back(
    connect: Connect, connection: Connection, how: str
):
    one = connect(poll_interval=60.0)
    publish_tasks(one, 10)
    for _ in range(3):
        one.Producer().publish({}, routing_key="q")
    inbox: list[Message] = []
    for _ in range(2):  # two channels, each with something in its hands
        channel = one.channel()
        channel.basic_qos(0, 6, False)
        channel.basic_consume("q", callback=inbox.append)
        drain(one, inbox, len(inbox) + 3)
    cut_all(connection)
    with suppress(one.connection_errors):
        # Messages that it has claimed may still come; and where a service of the node, which has
        # threads of its own, is the first to notice, its consumers go on.
        drain_until_quiet(one, 2.0)
    getattr(one, how)()
    two = connect(poll_interval=60.0)
    with consuming(two, ack=True) as others:
        drain(two, others, 13, timeout=20.0)  # long before it would look by itself
        wait_for(lambda: count_states(connection) == {"completed": 10})
        assert not get_rows(connection, "messages")
    assert all(row["attempt"] == 1 for row in get_rows(connection))
    one.release()


def test_publishing_on_a_lost_connection_gives_back_what_its_consumer_held(
    broker: kombu.Connection, connection: Connection, connect: Connect
):
    publish_tasks(broker, 5)
    inbox: list[Message] = []
    Consumer(broker.default_channel, [Queue("q")], on_message=inbox.append).consume()
    drain(broker, inbox, 2)
    producer = broker.Producer()
    # A service that notices first connects anew, and the producer sees nothing of it.
    services = get_node(broker.transport.database).services
    for loop in (services.pulse, services._metrics):
        loop.stop()
    cut_all(connection)
    producer.publish({}, routing_key="other", retry=True, retry_policy=POLICY)
    wait_for(lambda: count_states(connection) == {"available": 5})


@pytest.mark.parametrize(("statement", "kind"), [("claim_jobs", "job"), ("claim_messages", "")])
def test_what_was_claimed_by_a_statement_whose_answer_was_cut_off_is_put_back(
    url: str,
    connect: Connect,
    connection: Connection,
    caplog: pytest.LogCaptureFixture,
    statement: str,
    kind: str,
):
    with Proxy(url) as proxy:
        broker = connect(proxy.url)
        headers = {"task": "t", "id": "job"} if kind else {}
        broker.Producer().publish({}, routing_key="other", headers={})
        with consuming(broker, "q") as inbox:
            assert is_quiet(broker)
            broker.Producer().publish({}, routing_key="q", headers=headers)
            proxy.cut_answer(statement)
            with pytest.raises(broker.connection_errors):
                drain_until_quiet(broker, 5.0)
            assert proxy.cuts == 1
            table = "jobs" if kind else "messages"
            (row,) = get_rows(connection, table, "queue = 'q'")
            assert row["claimed_by"]
        broker.release()
        broker.connect()
        with consuming(broker, "q") as inbox:
            drain(broker, inbox, 1)
            assert is_quiet(broker)
        broker.release()
        get_node(broker.transport.database).close()
    if kind:
        assert "put back 1 jobs" in caplog.text
        assert inbox[0].delivery_info["redelivered"]


def test_a_claim_whose_backend_is_terminated_takes_nothing(
    broker: kombu.Connection, connection: Connection
):
    publish_tasks(broker, 3)
    with consuming(broker) as inbox:
        with connection.transaction():
            connection.execute("LOCK TABLE pgjobs.jobs IN EXCLUSIVE MODE")
            errors: list[Any] = []

            def run() -> None:
                with suppress(TimeoutError):
                    try:
                        broker.drain_events(timeout=5)
                    except broker.connection_errors as error:
                        errors.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            waiting = wait_for(lambda: backends(connection, "wait_event_type = 'Lock'"))
            connection.execute("SELECT pg_terminate_backend(unnest(%s::int[]))", [waiting])
            thread.join(10)
        assert errors
        drain(broker, inbox, 3)
    assert count_states(connection) == {"available": 3}


def test_an_acknowledgement_waits_for_the_connection_to_come_back(
    server: EmbeddedServer, connect: Connect, url: str
):
    """The server is down when the message is acknowledged, and up when that is written."""
    broker = connect()
    publish_tasks(broker, 3)
    with suppress(broker.connection_errors), consuming(broker) as inbox:
        drain(broker, inbox, 3)
        server.stop()
        inbox[0].ack()
        inbox[1].reject()
    broker.release()
    with pytest.raises(broker.connection_errors):
        broker.transport.establish_connection()
    server.start()
    with kombu.Connection(url) as other, other.channel() as channel:

        def counts() -> int:
            declared: int = channel.queue_declare("q", passive=True).message_count
            return declared

        # The third was never acknowledged.
        wait_for(lambda: counts() == 1)
        message = channel.basic_get("q")
        assert message.payload[0] == [2]
        message.ack()


class Taker(ConsumerMixin):  # type: ignore[misc]
    def __init__(self, connection: kombu.Connection) -> None:
        self.connection = connection
        self.got: set[str] = set()
        self.errors: list[BaseException] = []
        self.ready = threading.Event()

    def get_consumers(self, consumer: Any, channel: Any) -> list[Consumer]:
        return [consumer([Queue("q")], on_message=self.on_message)]

    def on_consume_ready(self, *_: Any, **__: Any) -> None:
        self.ready.set()

    def on_connection_error(self, error: BaseException, interval: float) -> None:
        self.errors.append(error)

    def on_message(self, message: Message) -> None:
        self.got.add(message.headers["id"])
        message.ack()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_consumer_and_a_producer_survive_a_restart_of_the_server(
    brief_server: EmbeddedServer, connect: Connect, mode: str
):
    producer = connect()
    taker = Taker(connect(poll_interval=60.0))
    thread = threading.Thread(target=taker.run, kwargs={"safety_interval": 0.2})
    thread.start()
    try:
        assert taker.ready.wait(5)
        sent = {publish_task(producer) for _ in range(3)}
        wait_for(lambda: taker.got == sent)
        taker.ready.clear()
        brief_server.restart(mode)
        policy = {**POLICY, "max_retries": 10}
        sent |= {publish_task(producer, retry=True, retry_policy=policy) for _ in range(3)}
        assert taker.ready.wait(10)
        wait_for(lambda: taker.got == sent)
    finally:
        taker.should_stop = True
        thread.join(10)
    assert not thread.is_alive()
