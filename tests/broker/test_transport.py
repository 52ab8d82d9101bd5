from __future__ import annotations

import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

import kombu
import pytest
from kombu import Consumer, Exchange, Queue
from kombu.asynchronous import Hub, set_event_loop
from kombu.common import eventloop
from kombu.message import Message
from kombu.mixins import ConsumerProducerMixin

from pgjobs_celery.broker import claim_plan as claiming
from pgjobs_celery.db import notify
from pgjobs_celery.db.notify import work_channel

from ..conftest import Connection
from ..support.consumers import (
    consuming,
    count_states,
    drain,
    get_rows,
    is_quiet,
    publish_task,
    publish_tasks,
)
from ..support.waiting import wait_for

Connect = Callable[..., kombu.Connection]

#: A poll that no test waits for: what comes earlier was announced.
NEVER = 60.0


def sleepers(connection: Connection, queue: str = "q") -> int:
    """How many sessions have announced that they wait for the queue."""
    (row,) = connection.execute(
        "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "
        "WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database() "
        "AND l.classid = %s AND l.objid = hashtext(%s)::bigint & 4294967295",
        [notify.SLEEPERS, work_channel("pgjobs") + queue],
    ).fetchall()
    return int(row["count"])


@contextmanager
def draining(broker: kombu.Connection, inbox: list[Message], count: int) -> Iterator[list[float]]:
    """Drain in a thread; the time it took from the block's start, once the block has ended."""
    took: list[float] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            drain(broker, inbox, count, timeout=10)
            took.append(time.monotonic())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield took
    finally:
        thread.join()
    assert not errors


# Wait and wake up


def test_no_wake_up_is_lost_between_two_looks(connect: Connect) -> None:
    transport = connect().transport
    waker = transport._open_waker()
    is_over = threading.Event()

    def finish_tasks() -> None:
        while not is_over.is_set():
            transport.wake()

    threads = [threading.Thread(target=finish_tasks) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(5_000):
            assert select.select([waker], [], [], 5.0)[0], "nobody wakes us any more"
            transport._drain_waker()
    finally:
        sys.setswitchinterval(interval)
        is_over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("timeout", [0, 0.01, 0.2])
def test_draining_an_empty_queue_times_out(broker: kombu.Connection, timeout: float):
    with consuming(broker):
        start = time.monotonic()
        with pytest.raises(socket.timeout):
            broker.drain_events(timeout=timeout)
        assert timeout <= time.monotonic() - start < timeout + 0.5


def test_a_consumer_that_waits_is_woken_by_a_job_and_by_a_message(
    connect: Connect, connection: Connection
):
    producer, consumer = connect(), connect(poll_interval=NEVER)
    with consuming(consumer, ack=True) as inbox:
        for count, publish in enumerate(
            (
                lambda: publish_task(producer),
                lambda: producer.Producer().publish({}, routing_key="q"),
                lambda: publish_task(producer, priority=9),
                lambda: publish_tasks(producer, 3),
            ),
            start=1,
        ):
            wanted = count if count < 4 else 6
            with draining(consumer, inbox, wanted) as ended:
                wait_for(lambda: sleepers(connection))
                start = time.monotonic()
                publish()
            assert ended[0] - start < 1.0


def test_a_consumer_is_woken_only_for_its_own_queues(connect: Connect, connection: Connection):
    producer, consumer = connect(), connect(poll_interval=NEVER)
    with consuming(consumer, "mine") as inbox:
        assert is_quiet(consumer)
        assert sleepers(connection, "mine") == 1
        assert sleepers(connection, "other") == 0
        publish_task(producer, "other")
        assert is_quiet(consumer)
        publish_task(producer, "mine")
        drain(consumer, inbox, 1, timeout=1.0)
    consumer.release()
    wait_for(lambda: sleepers(connection, "mine") == 0)


def test_a_consumer_that_has_just_been_busy_is_woken_too(connect: Connect):
    """A full claim and then a short one: what stands below the floors is looked for soon."""
    producer, consumer = connect(), connect(poll_interval=NEVER)
    publish_tasks(producer, 150)
    with consuming(consumer, ack=True) as inbox:
        drain(consumer, inbox, 150)
        publish_task(producer)
        drain(consumer, inbox, 151, timeout=3.0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_consumer_with_room_for_one_is_woken_before_its_next_look_at_everything(
    count: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
):
    """Each of its claims is full; such a look may be far away, where looks take long."""
    producer, consumer = connect(), connect(poll_interval=NEVER)
    with consuming(consumer, ack=True, prefetch=1) as inbox:
        assert is_quiet(consumer)
        monkeypatch.setattr(claiming, "FULL_LOOK_SPACING", 100_000)
        for wanted in range(count, 4 * count, count):
            publish_tasks(producer, count)
            drain(consumer, inbox, wanted, timeout=1.0)
            assert is_quiet(consumer, 0.02)


def test_a_new_queue_is_looked_at_and_listened_to(connect: Connect):
    producer, consumer = connect(), connect(poll_interval=NEVER)
    publish_task(producer, "two")
    inbox: list[Message] = []
    with Consumer(consumer.channel(), [Queue("one")], on_message=inbox.append) as one:
        assert is_quiet(consumer)
        one.add_queue(Queue("two"))
        one.consume()
        drain(consumer, inbox, 1, timeout=1.0)
        assert is_quiet(consumer)
        publish_task(producer, "two")
        drain(consumer, inbox, 2, timeout=1.0)
        one.cancel_by_queue("two")
        publish_task(producer, "two")
        assert is_quiet(consumer)


def test_without_listen_it_is_the_poll_that_finds(connect: Connect, connection: Connection):
    producer, consumer = connect(), connect(listen=False, poll_interval=0.2)
    with consuming(consumer, ack=True) as inbox:
        for wanted in (2, 4):
            with draining(consumer, inbox, wanted) as ended:
                start = time.monotonic()
                publish_task(producer)
                producer.Producer().publish({}, routing_key="q")
                assert sleepers(connection) == 0
            assert ended[0] - start < 0.6
        backends = connection.execute(
            "SELECT 1 FROM pg_stat_activity "
            "WHERE query ~ '^LISTEN' AND datname = current_database()"
        ).fetchall()
    # Other tests' listeners are closed, and this one has none.
    assert not backends


def test_flow_pauses_and_resumes(broker: kombu.Connection):
    with consuming(broker, ack=True) as inbox:
        channel = broker.transport.channels[-1]
        channel.flow(False)
        publish_task(broker)
        assert is_quiet(broker)
        channel.flow(True)
        drain(broker, inbox, 1)


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
            assert 0.2 < time.monotonic() - start < 5.0
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
