from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

import kombu
import pytest
from kombu import Consumer, Exchange, Queue
from kombu.asynchronous import Hub, set_event_loop
from kombu.common import eventloop
from kombu.message import Message
from kombu.mixins import ConsumerProducerMixin

from ..conftest import Connection
from ..support.busyness import Stopwatch
from ..support.consumers import (
    consuming,
    count_states,
    drain,
    get_rows,
    publish_task,
    publish_tasks,
)
from ..support.waiting import wait_for

Connect = Callable[..., kombu.Connection]

#: A poll that no test waits for: what comes earlier was announced.
NEVER = 60.0


# Wait and wake up


@pytest.mark.parametrize("timeout", [0, 0.01, 0.2])
def test_draining_an_empty_queue_times_out(broker: kombu.Connection, timeout: float):
    with consuming(broker):
        watch = Stopwatch()
        with pytest.raises(socket.timeout):
            broker.drain_events(timeout=timeout)
        assert timeout <= watch.elapsed()
        assert watch.own() < timeout + 0.5


# In an event loop


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    set_event_loop(hub)
    yield hub
    hub.close()
    hub.timer.stop()
    set_event_loop(None)


def turn(hub: Hub, inbox: list[Message], count: int, timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while len(inbox) < count:
        assert time.monotonic() < deadline, f"{len(inbox)} of {count} came"
        hub.run_once()


@pytest.mark.parametrize("listen", [True, False])
def test_an_event_loop_delivers_and_wakes_up(connect: Connect, hub: Hub, listen: bool):
    producer = connect()
    consumer = connect(listen=listen, poll_interval=NEVER if listen else 0.2)
    consumer.register_with_event_loop(hub)
    publish_tasks(producer, 150)
    with consuming(consumer, ack=True, prefetch=20) as inbox:
        turn(hub, inbox, 150)
        for wanted in (151, 152):
            threading.Timer(0.3, publish_task, [producer]).start()
            start = time.monotonic()
            turn(hub, inbox, wanted)
            assert 0.2 < time.monotonic() - start < NEVER / 4
        producer.Producer().publish({}, routing_key="q")
        turn(hub, inbox, 153, timeout=2.0)
    consumer.release()
    assert not hub.on_tick
    assert not hub.readers


def test_a_busy_event_loop_that_becomes_idle_is_woken(connect: Connect, hub: Hub):
    producer, consumer = connect(), connect(poll_interval=NEVER)
    consumer.register_with_event_loop(hub)
    publish_tasks(producer, 250)
    with consuming(consumer, ack=True) as inbox:
        turn(hub, inbox, 250)
        publish_task(producer)
        turn(hub, inbox, 251, timeout=3.0)


def test_a_pools_thread_that_acknowledges_makes_room_at_once(connect: Connect, hub: Hub):
    producer, consumer = connect(), connect(poll_interval=NEVER)
    consumer.register_with_event_loop(hub)
    publish_tasks(producer, 10)
    with consuming(consumer, prefetch=1) as inbox:
        for count in range(1, 10):
            turn(hub, inbox, count, timeout=1.0)
            threading.Timer(0.02, inbox[-1].ack).start()
        turn(hub, inbox, 10, timeout=1.0)


# What kombu builds on it


def test_a_simple_queue_puts_and_gets(broker: kombu.Connection, connection: Connection):
    with broker.SimpleQueue("simple") as queue:
        with pytest.raises(Empty):
            queue.get_nowait()
        with pytest.raises(Empty):
            queue.get(timeout=0.1)
        for index in range(3):
            queue.put({"n": index})
        assert len(queue) == queue.qsize() == 3
        for index in range(3):
            message = queue.get(timeout=5)
            assert message.payload == {"n": index}
            message.ack()
        queue.put({})
        assert queue.clear() == 1
    wait_for(lambda: not get_rows(connection, "messages"))


def test_a_simple_buffer_needs_no_acknowledgement(broker: kombu.Connection, connection: Connection):
    with broker.SimpleBuffer("buffer") as queue:
        for index in range(3):
            queue.put(index, serializer="json")
        assert [queue.get(timeout=5).payload for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Empty):
            queue.get(block=False)
    assert not get_rows(connection, "messages")


def test_an_event_loop_of_kombus_stops_at_its_limit(broker: kombu.Connection):
    publish_tasks(broker, 5)
    with consuming(broker, ack=True) as inbox:
        for _ in eventloop(broker, limit=3, timeout=5):
            pass
        assert len(inbox) == 3
        for _ in eventloop(broker, timeout=0.1, ignore_timeouts=True, limit=3):
            pass
        assert len(inbox) == 5


class Mixin(ConsumerProducerMixin):  # type: ignore[misc]
    """Answers each message in the queue that it names."""

    def __init__(self, connection: kombu.Connection) -> None:
        self.connection = connection
        self.got: list[Any] = []
        self.ready = threading.Event()

    def get_consumers(self, consumer: Any, channel: Any) -> list[Consumer]:
        return [consumer([Queue("q")], callbacks=[self.on_message], accept=["json"])]

    def on_consume_ready(self, *_: Any, **__: Any) -> None:
        self.ready.set()

    def on_message(self, body: Any, message: Message) -> None:
        self.got.append(body)
        reply_to = message.properties.get("reply_to")
        if reply_to:
            self.producer.publish({"got": body}, routing_key=reply_to, retry=True)
        message.ack()


def test_a_consumer_mixin_runs_until_it_is_told_to_stop(connect: Connect, connection: Connection):
    mixin = Mixin(connect(poll_interval=NEVER))
    client = connect()
    thread = threading.Thread(target=mixin.run, kwargs={"safety_interval": 0.2})
    thread.start()
    try:
        assert mixin.ready.wait(5)
        publish_tasks(client, 3)
        with client.SimpleBuffer("answers") as answers:
            client.Producer().publish({"a": 1}, routing_key="q", reply_to="answers")
            assert answers.get(timeout=5).payload == {"got": {"a": 1}}
        wait_for(lambda: len(mixin.got) == 4)
    finally:
        mixin.should_stop = True
        thread.join(10)
    assert not thread.is_alive()
    assert count_states(connection) == {"completed": 3}


def test_a_producer_declares_what_it_is_told_to(broker: kombu.Connection):
    exchange = Exchange("x", "topic")
    broker.Producer(exchange=exchange).publish(
        {"n": 1},
        routing_key="a.b",
        declare=[Queue("q", exchange, routing_key="a.#")],
        retry=True,
    )
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 1)
    assert inbox[0].payload == {"n": 1}
    assert inbox[0].delivery_info["exchange"] == "x"
