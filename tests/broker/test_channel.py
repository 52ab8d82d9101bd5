from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

import kombu
import pytest
from kombu.message import Message

from ..conftest import Connection
from ..support.consumers import (
    args_of,
    consuming,
    count_states,
    drain,
    get_rows,
    is_quiet,
    is_settled,
    next_in,
    publish_both,
    publish_task,
    publish_tasks,
)
from ..support.waiting import wait_for

# Close, get


def test_a_closing_channel_puts_back_at_once_what_was_not_acknowledged(
    connect: Callable[..., kombu.Connection],
    connection: Connection,
    caplog: pytest.LogCaptureFixture,
):
    one, two = connect(), connect(poll_interval=30.0)
    publish_both(one)
    publish_tasks(one, 3)
    with consuming(two) as other, caplog.at_level(logging.INFO):
        with consuming(one, prefetch=3) as inbox:
            drain(one, inbox, 3)
            inbox[0].ack()
        assert "Restoring 2 unacknowledged message(s)" in caplog.text
        drain(two, other, 4, timeout=2.0)
    rows = get_rows(connection)
    assert sum(row["state"] == "available" for row in rows) >= 3
    assert all(row["attempt"] == (row["state"] == "completed") for row in rows)


@pytest.mark.parametrize("no_ack", [True, False])
def test_basic_get_takes_one_of_each_kind(
    broker: kombu.Connection, connection: Connection, no_ack: bool
):
    channel = broker.default_channel
    assert channel.basic_get("q") is None
    publish_both(broker)
    for _ in range(2):
        message = channel.basic_get("q", no_ack=no_ack)
        assert message.payload
        if not no_ack:
            message.ack()
    assert channel.basic_get("q") is None
    assert is_settled(connection, "completed")


# Inside the callback


@pytest.mark.parametrize("what", ["raise", "cancel", "close"])
def test_what_a_callback_does_to_its_own_channel_loses_nothing(
    broker: kombu.Connection, connection: Connection, what: str
):
    publish_tasks(broker, 5)
    for _ in range(5):
        broker.Producer().publish({}, routing_key="q")
    channel = broker.channel()
    got: list[Message] = []

    def on_message(message: Message) -> None:
        got.append(message)
        if what == "raise":
            raise ZeroDivisionError
        if what == "cancel":
            channel.basic_cancel("tag")
        else:
            channel.close()

    channel.basic_consume("q", callback=on_message, consumer_tag="tag")
    for _ in range(2 if what == "raise" else 1):
        with pytest.raises(ZeroDivisionError) if what == "raise" else nullcontext():
            broker.drain_events(timeout=5)
    if what == "cancel":
        assert is_quiet(broker, 0.0)
        got[0].ack()
    channel.close()
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 9 if what == "cancel" else 10)
        assert is_quiet(broker)
    wait_for(lambda: count_states(connection) == {"completed": 5})
    assert not get_rows(connection, "messages")


# Rows that cannot be read


def test_basic_get_passes_over_what_cannot_be_read(
    broker: kombu.Connection, connection: Connection
):
    publish_tasks(broker, 3)
    connection.execute(
        "UPDATE pgjobs.jobs SET message = '' WHERE seq < (SELECT max(seq) FROM pgjobs.jobs)"
    )
    assert args_of(next_in(broker)) == 2
    for _ in range(2):
        broker.Producer().publish({}, routing_key="q")
    connection.execute(
        "UPDATE pgjobs.messages SET message = '' WHERE id = (SELECT min(id) FROM pgjobs.messages)"
    )
    next_in(broker).ack()
    wait_for(lambda: not get_rows(connection, "messages"))


def test_queues_count_separately(broker: kombu.Connection):
    for queue in ("a", "b"):
        publish_tasks(broker, 3, queue)
    with consuming(broker, "a", ack=True) as inbox:
        drain(broker, inbox, 3)
        assert is_quiet(broker, 0.0)
    assert Counter(message.delivery_info["routing_key"] for message in inbox) == {"a": 3}


# Turns


def test_one_turn_delivers_one_message(broker: kombu.Connection):
    publish_tasks(broker, 3)
    for _ in range(3):
        broker.Producer().publish({}, routing_key="q")
    with consuming(broker) as inbox:
        for count in range(1, 7):
            broker.drain_events(timeout=5)
            assert len(inbox) == count


@pytest.mark.parametrize("headers", [{"task": "again", "id": "again"}, {}])
def test_a_consumer_that_publishes_to_itself_gets_its_turn_again(
    broker: kombu.Connection, headers: dict[str, str]
):
    count = 0

    def again(message: Message) -> None:
        nonlocal count
        count += 1
        assert count < 100, "it never returned"
        message.ack()
        broker.Producer().publish({}, routing_key="q", headers=headers)

    broker.Producer().publish({}, routing_key="q", headers=headers)
    with broker.channel() as channel:
        channel.basic_qos(0, 1, False)
        with kombu.Consumer(channel, [kombu.Queue("q")], on_message=again):
            for _ in range(3):
                broker.drain_events(timeout=5)


def test_channels_and_kinds_take_turns(broker: kombu.Connection):
    publish_tasks(broker, 50, "a")
    publish_tasks(broker, 50, "b")
    for _ in range(50):
        broker.Producer().publish({}, routing_key="a")
    with (
        consuming(broker, "a", ack=True, prefetch=5) as a,
        consuming(broker, "b", ack=True, prefetch=5) as b,
    ):
        for _ in range(40):
            broker.drain_events(timeout=5)
        jobs = sum(message.claim is not None for message in a)
        assert min(len(b), jobs, len(a) - jobs) >= 5


def test_flow_pauses_and_resumes(broker: kombu.Connection):
    with consuming(broker, ack=True) as inbox:
        channel = broker.transport.channels[-1]
        channel.flow(False)
        publish_task(broker)
        assert is_quiet(broker)
        channel.flow(True)
        drain(broker, inbox, 1)
