"""A worker's events: free while nobody listens, in batches and in order while somebody does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import kombu
import pytest
from celery import Celery
from celery.events import EventDispatcher

from pgjobs_celery.config import Settings
from pgjobs_celery.db.database import Database
from pgjobs_celery.node.node import Node
from pgjobs_celery.node.nodes import get_node

from ..broker.test_transport_recovery import cut_all
from ..conftest import Connection
from ..support.waiting import wait_for

Count = Callable[[], int]


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


@pytest.fixture
def node(app: Celery) -> Iterator[Node]:
    """This process as a worker."""
    node = get_node(app.connection_for_write().transport.database)
    node.configure("worker@host", Settings(maintenance=False), app.conf.event_exchange)
    node.start()
    yield node
    node.event_exchange = None
    node.close()


@pytest.fixture
def dispatcher(app: Celery, node: Node) -> Iterator[EventDispatcher]:
    with app.events.Dispatcher(app.connection_for_write(), hostname="worker@host") as dispatcher:
        yield dispatcher


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How many transactions have published messages."""
    return counted(monkeypatch, "publish_messages")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How many transactions have taken messages."""
    return counted(monkeypatch, "take_messages")


def counted(monkeypatch: pytest.MonkeyPatch, statement: str) -> Count:
    run, seen = Database.run, []

    def count(self: Database, *transactions: Any) -> Any:
        seen.extend(t for t in transactions if t[0].prepared.name == statement.encode())
        return run(self, *transactions)

    monkeypatch.setattr(Database, "run", count)
    return lambda: len(seen)


class Listener:
    """Who takes every event, as Flower does."""

    def __init__(self, app: Celery) -> None:
        self.events: list[Any] = []
        self._broker = app.connection_for_read()
        receiver = app.events.Receiver(self._broker, handlers={"*": self.events.append})
        self._consumer = kombu.Consumer(
            self._broker.default_channel,
            [receiver.queue],
            callbacks=[receiver._receive],
            no_ack=True,
        )
        self._consumer.consume()

    def listen(self, count: int) -> list[str]:
        """The ids of that many events."""
        while len(self.events) < count:
            self._broker.drain_events(timeout=5)
        return [event["uuid"] for event in self.events]

    def close(self) -> None:
        self._consumer.cancel()
        self._broker.release()


@pytest.fixture
def listener(app: Celery, node: Node) -> Iterator[Listener]:
    listener = Listener(app)
    wait_for(lambda: node.services.post.is_heard("task.custom"))  # another test may have had none
    yield listener
    listener.close()


def send(dispatcher: EventDispatcher, *numbers: int) -> None:
    for number in numbers:
        dispatcher.send("task-custom", uuid=str(number))


def test_what_nobody_hears_costs_no_statement_each(
    dispatcher: EventDispatcher, node: Node, published: Count, connection: Connection
):
    send(dispatcher, 0)
    wait_for(lambda: not node.services.post.is_heard("task.custom"))
    before = published()
    send(dispatcher, *range(1000))
    assert published() == before
    assert not connection.execute("SELECT 1 FROM pgjobs.messages").fetchall()


def test_a_listener_hears_all_in_order_and_in_batches(
    dispatcher: EventDispatcher, listener: Listener, published: Count
):
    send(dispatcher, *range(1000))
    assert listener.listen(1000) == [str(number) for number in range(1000)]
    assert {event["hostname"] for event in listener.events} == {"worker@host"}
    assert published() < 100


def test_a_worker_looks_for_events_once_a_second(
    dispatcher: EventDispatcher, listener: Listener, looks: Count
):
    """It hears of many others, and each look for one event is a transaction."""
    began, before = time.monotonic(), looks()
    for number in range(20):
        send(dispatcher, number)
        with suppress(TimeoutError):
            listener._broker.drain_events(timeout=0.1)
    assert listener.listen(20) == [str(number) for number in range(20)]
    assert looks() - before <= time.monotonic() - began + 4  # one for each event without that


def test_who_begins_to_listen_hears_what_happens_a_second_later(
    app: Celery, dispatcher: EventDispatcher, node: Node
):
    send(dispatcher, 1)
    wait_for(lambda: not node.services.post.is_heard("task.custom"))
    listener = Listener(app)
    wait_for(lambda: node.services.post.is_heard("task.custom"), timeout=1.5)
    send(dispatcher, 2)
    assert listener.listen(1) == ["2"]
    listener.close()


def test_what_happens_while_there_is_no_connection_is_told_later(
    dispatcher: EventDispatcher, listener: Listener, connection: Connection, node: Node
):
    node.services.post.linger = 0.3
    send(dispatcher, 1, 2)
    cut_all(connection)
    send(dispatcher, 3)
    queue = "SELECT count(*) AS count FROM pgjobs.messages"
    wait_for(lambda: connection.execute(queue).fetchone() == {"count": 3})


def test_what_is_left_is_sent_when_the_worker_leaves(
    dispatcher: EventDispatcher, listener: Listener, node: Node
):
    node.services.post.linger = 60.0
    send(dispatcher, 1)
    node.close()
    assert listener.listen(1) == ["1"]


def test_a_program_that_is_no_worker_sends_at_once(
    app: Celery, listener: Listener, node: Node, connection: Connection
):
    node.event_exchange = None
    with app.events.Dispatcher(app.connection_for_write()) as dispatcher:
        send(dispatcher, 1)
    assert len(connection.execute("SELECT 1 FROM pgjobs.messages").fetchall()) == 1
    assert listener.listen(1) == ["1"]
