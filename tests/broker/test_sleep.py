"""Wait and wake up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import kombu
import pytest
from kombu import Consumer, Queue
from kombu.message import Message

from pgjobs_celery.broker import claim_plan as claiming
from pgjobs_celery.db import notify
from pgjobs_celery.db.notify import work_channel

from ..conftest import Connection
from ..support.consumers import (
    consuming,
    drain,
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
            assert ended[0] - start < NEVER / 4


def test_a_consumer_is_woken_only_for_its_own_queues(connect: Connect, connection: Connection):
    producer, consumer = connect(), connect(poll_interval=NEVER)
    with consuming(consumer, "mine") as inbox:
        # It announces itself once it has looked at all, and reads what came, in turns of its own.
        wait_for(lambda: is_quiet(consumer) and sleepers(connection, "mine") == 1)
        assert sleepers(connection, "other") == 0
        publish_task(producer, "other")
        assert is_quiet(consumer)
        publish_task(producer, "mine")
        drain(consumer, inbox, 1)
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
            drain(consumer, inbox, wanted)
            assert is_quiet(consumer, 0.02)


def test_a_new_queue_is_looked_at_and_listened_to(connect: Connect):
    producer, consumer = connect(), connect(poll_interval=NEVER)
    publish_task(producer, "two")
    inbox: list[Message] = []
    with Consumer(consumer.channel(), [Queue("one")], on_message=inbox.append) as one:
        assert is_quiet(consumer)
        one.add_queue(Queue("two"))
        one.consume()
        drain(consumer, inbox, 1)
        assert is_quiet(consumer)
        publish_task(producer, "two")
        drain(consumer, inbox, 2)
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
            assert ended[0] - start < 10
        backends = connection.execute(
            "SELECT 1 FROM pg_stat_activity "
            "WHERE query ~ '^LISTEN' AND datname = current_database()"
        ).fetchall()
    # Other tests' listeners are closed, and this one has none.
    assert not backends


def test_who_is_not_told_of_news_any_more_listens_anew(
    connect: Connect, caplog: pytest.LogCaptureFixture
):
    """As where a pooler has given the session that listens to somebody else."""
    broker = connect(poll_interval=0.5)
    with consuming(broker, ack=True) as inbox:
        assert is_quiet(broker, 1.2)  # the last look below the floors is over: the poll is next
        deaf = broker.transport.sleep.listener
        deaf._connection.psycopg.execute("UNLISTEN *")
        publish_task(broker)
        drain(broker, inbox, 1)
        assert is_quiet(broker)
        assert broker.transport.sleep.listener is not deaf
        assert caplog.text.count("LISTEN had died") == 1
        publish_task(broker)
        drain(broker, inbox, 2)
    assert caplog.text.count("LISTEN had died") == 1
