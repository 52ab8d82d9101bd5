from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import kombu
import psycopg
import pytest
from kombu.message import Message

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.claims import Claims
from pgjobs_celery.job.outcome import completed

from ..conftest import Connection
from ..support.consumers import (
    args_of,
    backends,
    consuming,
    count_states,
    drain,
    get_row,
    get_rows,
    is_quiet,
    publish_task,
    publish_tasks,
)
from ..support.waiting import wait_for

#: Consumes and acknowledges until nothing comes any more; prints what it got.
CONSUME = """
import sys, kombu, pgjobs_celery
ids = []
def on_message(message):
    ids.append(message.claim.id)
    message.ack()
with kombu.Connection(sys.argv[1]) as broker, broker.channel() as channel:
    channel.basic_qos(0, 20, False)
    with kombu.Consumer(channel, [kombu.Queue("q")], on_message=on_message):
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            while True:
                broker.drain_events(timeout=0.5)
        except TimeoutError:
            pass
print(*ids)
"""


def multiply(connection: Connection, count: int) -> None:
    """Put that many copies of the only job in line."""
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body) "
        "SELECT task_id || '-' || n, task, queue, message, body "
        "FROM pgjobs.jobs, generate_series(1, %s) AS n",
        [count],
    )


# Prefetch


def test_a_slow_consumer_sits_on_no_more_than_it_may_hold(
    broker: kombu.Connection, connection: Connection
):
    publish_tasks(broker, 50)
    with consuming(broker, prefetch=4) as inbox:
        drain(broker, inbox, 4)
        assert is_quiet(broker)
        assert count_states(connection) == {"executing": 4, "available": 46}


# Order


def test_a_queue_is_first_in_first_out(broker: kombu.Connection):
    publish_tasks(broker, 250)
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 50)
        publish_tasks(broker, 10)
        drain(broker, inbox, 260)
    assert [args_of(message) for message in inbox] == [*range(250), *range(10)]


PRIORITIES = (5, 0, 9, None, 255, 3, 1000, -4, 0)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("asc", [1, 3, 7, 8, 5, 0, 2, 4, 6]), ("desc", [4, 6, 2, 0, 5, 1, 3, 7, 8])],
)
@pytest.mark.parametrize("task", [True, False])
def test_the_priority_goes_before_the_place_in_line(
    connect: Callable[..., kombu.Connection], order: str, expected: list[int], task: bool
):
    broker = connect(priority_order=order)
    for index, priority in enumerate(PRIORITIES):
        broker.Producer().publish(
            [[index], {}, {}],
            routing_key="q",
            priority=priority,
            headers={"task": "t", "id": str(index)} if task else {},
        )
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, len(PRIORITIES))
    assert [args_of(message) for message in inbox] == expected


def test_an_urgent_job_overtakes_those_that_are_not_claimed_yet(
    connect: Callable[..., kombu.Connection],
):
    broker = connect(read_ahead=0)
    # Of a priority that it has not met, a busy consumer learns within a second.
    publish_task(broker, body=[[0], {}, {}], priority=0)
    publish_tasks(broker, 20, priority=5)
    with consuming(broker, prefetch=1) as inbox:
        for count in (1, 2):
            drain(broker, inbox, count)
            inbox[-1].ack()
        publish_task(broker, body=[["urgent"], {}, {}], priority=0)
        drain(broker, inbox, 3)
        inbox[-1].ack()
        drain(broker, inbox, 4)
    assert "urgent" in [args_of(message) for message in inbox[2:]]


def test_a_job_that_was_put_back_keeps_its_place(broker: kombu.Connection):
    publish_tasks(broker, 3)
    with consuming(broker, prefetch=1) as inbox:
        drain(broker, inbox, 1)
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 3)
    assert [args_of(message) for message in inbox] == [0, 1, 2]


def test_queues_take_turns(broker: kombu.Connection, connection: Connection):
    for queue in ("a", "b", "c"):
        publish_tasks(broker, 200 if queue != "c" else 1, queue)
    with consuming(broker, "a", "b", "c", ack=True, prefetch=10) as inbox:
        drain(broker, inbox, 100)
    counts = Counter(message.delivery_info["routing_key"] for message in inbox)
    assert counts["c"] == 1
    assert min(counts["a"], counts["b"]) >= 30


# Races


def test_threads_never_get_the_same_job(
    connect: Callable[..., kombu.Connection], connection: Connection
):
    count = 2000
    publish_task(connect(), id="job")
    multiply(connection, count - 1)

    def consume(index: int) -> list[int]:
        # Two nodes: what differs in its options differs in its claims.
        broker = connect(max_claim=50 + index % 2)
        with consuming(broker, ack=True, prefetch=10) as inbox:
            while not is_quiet(broker, 0.2):
                pass
        return [message.claim.id for message in inbox]

    with ThreadPoolExecutor(4) as pool:
        got = [each for inbox in pool.map(consume, range(4)) for each in inbox]
    assert len(got) == len(set(got)) == count
    wait_for(lambda: count_states(connection) == {"completed": count})
    assert all(row["attempt"] == 1 for row in get_rows(connection))


def test_processes_never_get_the_same_job(
    broker: kombu.Connection, connection: Connection, url: str
):
    count = 3000
    consumers = [
        subprocess.Popen(
            [sys.executable, "-c", CONSUME, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for consumer in consumers:
        assert consumer.stdout.readline() == "ready\n"
    publish_task(broker, id="job")
    multiply(connection, count - 1)
    for consumer in consumers:
        consumer.stdin.write("go\n")
        consumer.stdin.flush()
    outputs = [consumer.communicate(timeout=60)[0].split() for consumer in consumers]
    assert [consumer.returncode for consumer in consumers] == [0, 0, 0]
    assert len({id for output in outputs for id in output}) == sum(map(len, outputs)) == count
    assert all(outputs)
    assert count_states(connection) == {"completed": count}
    assert all(row["attempt"] == 1 for row in get_rows(connection))


# Queues that are cancelled, and rows that cannot be read


def test_a_cancelled_consumer_gives_back_what_it_did_not_deliver(
    broker: kombu.Connection, connection: Connection
):
    publish_tasks(broker, 10)
    publish_tasks(broker, 10, "kept")
    inbox: list[Message] = []
    channel = broker.channel()
    channel.basic_consume("q", callback=inbox.append, consumer_tag="mine")
    channel.basic_consume("kept", callback=inbox.append)
    drain(broker, inbox, 1)
    assert count_states(connection) == {"executing": 20}
    channel.basic_cancel("mine")
    channel.basic_cancel("mine")
    mine = sum(message.claim.queue == "q" for message in inbox)
    wait_for(lambda: count_states(connection).get("available") == 10 - mine)
    drain(broker, inbox, mine + 10)
    assert is_quiet(broker, 0.0)
    channel.close()
    assert count_states(connection) == {"available": 20}


def test_jobs_of_a_claim_during_which_its_consumer_was_cancelled_go_back(
    broker: kombu.Connection, connection: Connection, url: str
):
    """Celery cancels in a signal handler, which may interrupt a claim."""
    publish_tasks(broker, 3)
    inbox: list[Message] = []
    channel = broker.channel()
    channel.basic_consume("q", callback=inbox.append, consumer_tag="mine")
    with psycopg.connect(parse_url(url)) as other:
        other.execute("LOCK TABLE pgjobs.jobs IN EXCLUSIVE MODE")

        def on_signal(*_: object) -> None:
            channel.basic_cancel("mine")
            other.rollback()

        def interrupt() -> None:
            wait_for(lambda: backends(connection, "wait_event_type = 'Lock'"))
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, on_signal)
        thread = threading.Thread(target=interrupt)
        try:
            thread.start()
            assert is_quiet(broker, 1.0)
        finally:
            thread.join()
            signal.signal(signal.SIGUSR1, before)
    wait_for(lambda: count_states(connection) == {"available": 3})
    assert get_rows(connection, where="attempted_at IS NOT NULL"), "nothing was claimed"
    assert not inbox


BROKEN = {
    "garbage": "{not json",
    "a null": "null",
    "a list": "[]",
    "no headers": '{"content-type": null, "content-encoding": null, "properties": {}}',
    "null headers": '{"content-type": null, "content-encoding": null, "headers": null,'
    ' "properties": {}}',
    "odd properties": '{"content-type": null, "content-encoding": null, "headers": {},'
    ' "properties": []}',
    "nothing": None,
}


@pytest.mark.parametrize("message", BROKEN.values(), ids=BROKEN.keys())
def test_a_row_that_cannot_be_read_is_set_aside_and_the_others_go_on(
    broker: kombu.Connection,
    connection: Connection,
    caplog: pytest.LogCaptureFixture,
    message: str | None,
):
    publish_tasks(broker, 5)
    connection.execute(
        "UPDATE pgjobs.jobs SET message = %s, task_id = 'broken' WHERE id = "
        "(SELECT min(id) + 2 FROM pgjobs.jobs)",
        [message],
    )
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 4)
        wait_for(lambda: count_states(connection) == {"completed": 4, "discarded": 1})
    assert [args_of(each) for each in inbox] == [0, 1, 3, 4]
    (error,) = get_row(connection, "broken")["errors"]
    assert error["type"] == "UndecodableRow"
    assert "not what was published" in error["message"]
    assert "set aside" in caplog.text


# Outcomes


@pytest.fixture
def fed(connect: Callable[..., kombu.Connection]) -> Iterator[tuple[kombu.Connection, Any]]:
    """A connection, and its channel, which feeds a pool of two and claims four jobs at a time."""
    broker = connect(max_claim=4, read_ahead=1000.0)
    publish_tasks(broker, 12)
    with consuming(broker, prefetch=4) as inbox:
        channel = next(each for each in broker.transport.channels if each.queues)
        node = channel.node
        node.pool = SimpleNamespace(capacity=2, is_fed_by=lambda each: each is channel)
        channel.jobs.acknowledged = 1000  # it is fast enough to claim ahead
        linger, node.services.settle.linger = node.services.settle.linger, 60.0
        drain(broker, inbox, 4)
        for message in inbox[:2]:
            begin(message)
        yield broker, inbox
        for message in inbox:  # the process holds it otherwise
            end(message)
        node.pool, node.services.settle.linger = None, linger


def begin(message: Message) -> None:
    """The pool has a place for it, and acknowledges it early."""
    message.track()
    message.channel.node.holdings.hand_to_pool(message.claim.id)
    message.ack()


def end(message: Message) -> None:
    message.settle(completed(message.claim))


def test_outcomes_wait_for_the_claim_that_is_close(
    fed: tuple[kombu.Connection, Any], connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    broker, inbox = fed
    drain(broker, inbox, 6)  # of the next claim, for which the two have made room
    turns: list[tuple[int, int]] = []
    turn = Claims.turn

    def count(self: Any, node: Any, pending: Any, *args: Any, **kwargs: Any) -> Any:
        done = turn(self, node, pending, *args, **kwargs)
        turns.append((len(pending.outcomes), len(done.claims)))
        return done

    monkeypatch.setattr(Claims, "turn", count)
    for ended, begun in ((0, 2), (1, 3)):
        end(inbox[ended])
        begin(inbox[begun])
        assert not is_quiet(broker, 0.0)  # there is room for one that was claimed
    # By now the window is full, and nothing is left to hand out.
    assert count_states(connection) == {"executing": 8, "available": 4}
    assert turns == []
    end(inbox[2])
    begin(inbox[4])
    drain(broker, inbox, 9)
    assert turns == [(3, 4)]


def test_outcomes_are_written_at_once_where_no_job_waits_for_a_place(
    fed: tuple[kombu.Connection, Any], connection: Connection
):
    broker, inbox = fed
    end(inbox[0])
    connection.execute("DELETE FROM pgjobs.jobs WHERE state = 'available'")
    for message in inbox[2:]:
        begin(message)
        end(message)
        is_quiet(broker, 0.0)
    assert count_states(connection)["completed"] == len(inbox) - 1
