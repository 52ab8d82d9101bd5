from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

import kombu
import pytest
from kombu.message import Message

from pgjobs_celery.node.node import get_node

from ..conftest import Connection
from ..support.consumers import (
    args_of,
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


def publish_both(broker: kombu.Connection) -> None:
    """A job and a message that is none."""
    publish_task(broker, id="job")
    broker.Producer().publish([[None], {}, {}], routing_key="q")


def is_settled(connection: Connection, job: str) -> bool:
    """True once the job is in that state, and the message is gone."""
    return get_row(connection, "job")["state"] == job and not get_rows(connection, "messages")


def next_in(broker: kombu.Connection, queue: str = "q") -> Message:
    message = broker.default_channel.basic_get(queue)
    assert message is not None
    return message


# Acknowledge, reject, put back


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


def test_a_consumer_that_does_not_acknowledge_finishes_what_it_gets(
    broker: kombu.Connection, connection: Connection
):
    publish_both(broker)
    with consuming(broker, no_ack=True) as inbox:
        drain(broker, inbox, 2)
        wait_for(lambda: is_settled(connection, "completed"))
    assert get_row(connection, "job")["attempt"] == 1


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


def test_queues_count_separately(broker: kombu.Connection):
    for queue in ("a", "b"):
        publish_tasks(broker, 3, queue)
    with consuming(broker, "a", ack=True) as inbox:
        drain(broker, inbox, 3)
        assert is_quiet(broker, 0.0)
    assert Counter(message.delivery_info["routing_key"] for message in inbox) == {"a": 3}
