"""Messages that are not jobs, on their way to a consumer."""

from __future__ import annotations

import kombu
import pytest
from kombu.message import Message

from ..conftest import Connection
from ..support.consumers import (
    consuming,
    drain,
    get_rows,
    is_quiet,
)
from ..support.waiting import wait_for


def test_messages_are_first_in_first_out_too(broker: kombu.Connection):
    for index in range(250):
        broker.Producer().publish(index, routing_key="q", serializer="json")
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 250)
    assert [message.payload for message in inbox] == list(range(250))


def test_a_message_that_cannot_be_read_is_dropped_and_the_others_go_on(
    broker: kombu.Connection, connection: Connection, caplog: pytest.LogCaptureFixture
):
    for index in range(3):
        broker.Producer().publish(index, routing_key="q", serializer="json")
    connection.execute(
        "UPDATE pgjobs.messages SET message = '{not json' "
        "WHERE id = (SELECT id FROM pgjobs.messages ORDER BY id OFFSET 1 LIMIT 1)"
    )
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 2)
        wait_for(lambda: not get_rows(connection, "messages"))
    assert [message.payload for message in inbox] == [0, 2]
    assert "a message in queue q is dropped" in caplog.text


def test_a_cancelled_consumer_gives_back_the_messages_that_it_did_not_get(
    broker: kombu.Connection, connection: Connection
):
    for index in range(5):
        broker.Producer().publish(index, routing_key="q", serializer="json")
    inbox: list[Message] = []
    channel = broker.channel()
    channel.basic_consume("q", callback=inbox.append, consumer_tag="mine")
    drain(broker, inbox, 1)
    channel.basic_cancel("mine")
    wait_for(lambda: len(get_rows(connection, "messages", "claimed_by IS NULL")) == 4)
    assert is_quiet(broker, 0.0)
    inbox[0].ack()
    wait_for(lambda: len(get_rows(connection, "messages")) == 4)
