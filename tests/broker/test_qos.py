"""Prefetch, acknowledge, reject, put back."""

from __future__ import annotations

import logging
from collections.abc import Callable

import kombu
import pytest
from kombu.message import Message

from pgjobs_celery.node.nodes import get_node

from ..conftest import Connection
from ..support.consumers import (
    consuming,
    count_states,
    drain,
    get_row,
    get_rows,
    is_quiet,
    is_settled,
    next_in,
    publish_both,
    publish_task,
    publish_tasks,
)
from ..support.waiting import wait_for


def test_no_more_is_delivered_than_the_prefetch_count_allows(
    broker: kombu.Connection, connection: Connection
):
    publish_tasks(broker, 5)
    for _ in range(5):
        broker.Producer().publish({}, routing_key="q")
    with consuming(broker, prefetch=3) as inbox:
        drain(broker, inbox, 3)
        assert is_quiet(broker)
        assert len(inbox) == 3
        channel = inbox[0].channel
        assert not channel.qos.can_consume()
        inbox[0].ack()
        assert channel.qos.can_consume()
        drain(broker, inbox, 4)
        assert is_quiet(broker)
        channel.basic_qos(0, 5, False)
        drain(broker, inbox, 6)
        assert is_quiet(broker)
        channel.basic_qos(0, 0, False)
        drain(broker, inbox, 10)


def test_an_acknowledged_job_is_completed(
    connect: Callable[..., kombu.Connection], connection: Connection
):
    broker = connect(max_claim=99)  # a node that no other test has
    publish_both(broker)
    with consuming(broker) as inbox:
        drain(broker, inbox, 2)
        row = get_row(connection, "job")
        node = get_node(broker.transport.database)
        assert (row["state"], row["attempt"], row["claimed_by"]) == ("executing", 1, node.id)
        assert row["attempted_by"] == node.name
        assert row["attempted_at"]
        assert get_rows(connection, "messages")[0]["claimed_by"] == node.id
        assert get_rows(connection, "nodes", f"node = '{node.id}'")
        for message in inbox:
            message.ack()
        wait_for(lambda: is_settled(connection, "completed"))
    row = get_row(connection, "job")
    assert (row["attempt"], row["claimed_by"], row["errors"]) == (1, None, [])
    assert row["finished_at"]


def test_acknowledging_several_at_once_takes_all_before(
    broker: kombu.Connection, connection: Connection
):
    publish_tasks(broker, 5)
    with consuming(broker) as inbox:
        drain(broker, inbox, 5)
        inbox[2].ack(multiple=True)
        wait_for(lambda: count_states(connection) == {"completed": 3, "executing": 2})


def test_a_rejected_job_is_discarded_and_says_so(broker: kombu.Connection, connection: Connection):
    publish_both(broker)
    with consuming(broker) as inbox:
        drain(broker, inbox, 2)
        for message in inbox:
            message.reject()
        wait_for(lambda: is_settled(connection, "discarded"))
        assert is_quiet(broker, 0.0)
    (error,) = get_row(connection, "job")["errors"]
    assert (error["type"], error["attempt"]) == ("Reject", 1)


def test_a_requeued_message_comes_again_redelivered(
    broker: kombu.Connection, connection: Connection
):
    publish_both(broker)
    with consuming(broker) as inbox:
        drain(broker, inbox, 2)
        assert not any(message.delivery_info["redelivered"] for message in inbox)
        for message in inbox[:]:
            message.requeue()
        drain(broker, inbox, 4, timeout=2.0)
        assert all(message.delivery_info["redelivered"] for message in inbox[2:])
        row = get_row(connection, "job")
        assert (row["state"], row["attempt"], row["redelivered"]) == ("executing", 2, True)


def test_another_consumer_gets_what_one_puts_back_at_once(
    connect: Callable[..., kombu.Connection], connection: Connection
):
    one, two = connect(), connect(poll_interval=30.0)
    publish_both(one)
    messages = [next_in(one), next_in(one)]
    with consuming(two) as inbox:
        assert is_quiet(two)
        for message in messages:
            message.requeue()
        drain(two, inbox, 2, timeout=2.0)


def test_a_job_that_is_put_back_for_ever_is_discarded_in_the_end(
    broker: kombu.Connection, connection: Connection
):
    publish_task(broker, id="poison")
    connection.execute("UPDATE pgjobs.jobs SET max_attempts = 3")
    with consuming(broker) as inbox:
        for count in (1, 2, 3):
            drain(broker, inbox, count)
            inbox[-1].requeue()
        wait_for(lambda: get_row(connection, "poison")["state"] == "discarded")
        assert is_quiet(broker, 0.0)
    row = get_row(connection, "poison")
    assert row["attempt"] == 3
    assert [error["type"] for error in row["errors"]] == ["DeliveryLimitExceeded"]
    assert "3 times" in row["errors"][0]["message"]


def test_a_job_is_delivered_twenty_times_at_most(broker: kombu.Connection, connection: Connection):
    publish_task(broker, id="poison")
    for _ in range(20):
        next_in(broker).requeue()
    assert broker.default_channel.basic_get("q") is None
    assert get_row(connection, "poison")["state"] == "discarded"


def test_a_spent_job_that_somebody_puts_back_by_hand_runs_once_more(
    broker: kombu.Connection, connection: Connection
):
    publish_task(broker, id="spent")
    publish_task(broker, id="other")
    connection.execute("UPDATE pgjobs.jobs SET attempt = 20 WHERE task_id = 'spent'")
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 2)
        wait_for(lambda: count_states(connection) == {"completed": 2})


def test_recovered_messages_come_again(broker: kombu.Connection, connection: Connection):
    publish_both(broker)
    with consuming(broker) as inbox:
        drain(broker, inbox, 2)
        inbox[0].channel.basic_recover(requeue=True)
        drain(broker, inbox, 4)
        assert all(message.delivery_info["redelivered"] for message in inbox[2:])
    # The attempts that were recovered, and the last one, which the end of the channel released.
    assert get_row(connection, "job")["attempt"] == 0


def test_a_message_is_settled_once(broker: kombu.Connection, connection: Connection):
    publish_task(broker, id="job")
    with consuming(broker) as inbox:
        drain(broker, inbox, 1)
        message = inbox[0]
        message.ack()
        with pytest.raises(message.MessageStateError):
            message.requeue()
        message.channel.basic_reject(message.delivery_tag, requeue=True)
        wait_for(lambda: get_row(connection, "job")["state"] == "completed")
        assert is_quiet(broker, 0.0)


def test_an_outcome_whose_claim_was_lost_changes_nothing_and_is_logged(
    broker: kombu.Connection, connection: Connection, caplog: pytest.LogCaptureFixture
):
    publish_task(broker, id="job")
    with consuming(broker) as inbox, caplog.at_level(logging.WARNING):
        drain(broker, inbox, 1)
        other = "11111111-1111-1111-1111-111111111111"
        connection.execute("UPDATE pgjobs.jobs SET claimed_by = %s, attempt = 2", [other])
        before = get_row(connection, "job")
        inbox[0].ack()
        wait_for(lambda: "no longer ours" in caplog.text)
    assert get_row(connection, "job") == before


def test_a_consumer_that_does_not_acknowledge_finishes_what_it_gets(
    broker: kombu.Connection, connection: Connection
):
    publish_both(broker)
    with consuming(broker, no_ack=True) as inbox:
        drain(broker, inbox, 2)
        wait_for(lambda: is_settled(connection, "completed"))
    assert get_row(connection, "job")["attempt"] == 1


@pytest.mark.parametrize(
    ("content_type", "headers", "kind"),
    [
        ("application/json", {}, "DecodeError"),
        ("application/x-python-serialize", {}, "ContentDisallowed"),
        ("application/json", {"compression": "application/x-gzip"}, "error"),
    ],
)
def test_a_job_that_cannot_be_decoded_is_discarded_when_it_is_acknowledged(
    broker: kombu.Connection,
    connection: Connection,
    content_type: str,
    headers: dict[str, str],
    kind: str,
):
    publish_task(
        broker, "q", b"{", id="odd", serializer=None, content_type=content_type,
        content_encoding="utf-8", headers=headers,
    )  # fmt: skip
    seen: list[Exception] = []

    def on_decode_error(message: Message, error: Exception) -> None:
        seen.append(error)
        message.ack()

    with kombu.Consumer(
        broker.channel(), [kombu.Queue("q")], on_decode_error=on_decode_error, accept=["json"]
    ):
        broker.drain_events(timeout=5)
        wait_for(lambda: get_row(connection, "odd")["state"] == "discarded")
    (error,) = get_row(connection, "odd")["errors"]
    assert error["type"] == type(seen[0]).__name__ == kind
