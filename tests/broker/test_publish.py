from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta, timezone
from typing import Any

import kombu
import pytest
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from pgjobs_celery.db.rows.claims import Claims, Turn
from pgjobs_celery.errors import BodyTooLarge, MessageRefused
from pgjobs_celery.job.envelope import LAST_INDEX, decode_envelope

from ..conftest import Connection
from ..support.consumers import consuming, drain, get_row, get_rows, is_quiet, publish_task
from ..support.waiting import wait_for

BODIES = {
    "NUL": b"\x00a\x00",
    "NaN": b'[[NaN], {"x": Infinity}, {}]',
    "binary": bytes(range(256)),
    "not UTF-8": b"\xff\xfe[]",
    "empty": b"",
    "10 MB": os.urandom(1024) * 10240,
}


def test_a_task_becomes_one_row_with_everything_in_its_column(
    make_app: Callable[..., Celery], connection: Connection
):
    app = make_app(enable_utc=True)
    expires = datetime(2100, 1, 1, tzinfo=timezone.utc)
    before = datetime.now(timezone.utc)
    app.send_task(
        "tests.add", (1, "zwei"), {"c": [3]}, task_id="one", queue="mail", priority=3,
        expires=expires, root_id="root", parent_id="parent", group_id="group",
        correlation_id="one", headers={"mine": {"deep": [1, None]}},
    )  # fmt: skip
    (row,) = get_rows(connection)
    message = decode_envelope(row.pop("message"), "mail")
    moments = [row.pop(name) for name in ("inserted_at", "scheduled_at")]
    assert all(before - timedelta(seconds=5) < at < before + timedelta(seconds=5) for at in moments)
    assert json.loads(row.pop("body")) == [
        [1, "zwei"], {"c": [3]},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]  # fmt: skip
    assert isinstance(row.pop("id"), int)
    assert isinstance(row.pop("seq"), int)
    assert row == {
        "task_id": "one", "task": "tests.add", "queue": "mail",
        "root_id": "root", "parent_id": "parent", "group_id": "group",
        "group_index": LAST_INDEX, "expires_at": expires,
        "tags": [], "meta": {}, "unique_key": None, "priority": 3, "due_at": None,
        "max_attempts": 20, "state": "available", "attempt": 0, "redelivered": False,
        "claimed_by": None, "attempted_at": None, "attempted_by": None, "acks_late": False,
        "finished_at": None,
        "reported_state": None, "result": None, "result_type": None, "traceback": None,
        "children": None, "errors": [], "cancel_requested_at": None, "cancel_reason": None,
        "cancel_signal": None, "superseded_by": None, "given_key": None,
        "lane": None, "cost": None,
        "failed_at": None, "fingerprint": None,
    }  # fmt: skip
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.headers["mine"] == {"deep": [1, None]}
    assert message.headers["id"] == "one"
    assert message.properties["correlation_id"] == "one"
    assert message.properties["delivery_mode"] == 2
    assert not get_rows(connection, "messages")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_comes_back_byte_for_byte(
    broker: kombu.Connection, connection: Connection, body: bytes
):
    id = publish_task(
        broker, "q", body, serializer=None, content_type="application/data",
        content_encoding="binary",
    )  # fmt: skip
    assert bytes(get_row(connection, id)["body"]) == body
    with consuming(broker) as inbox:
        drain(broker, inbox, 1)
    assert inbox[0].body == body
    assert inbox[0].content_type == "application/data"
    assert inbox[0].content_encoding == "binary"


def test_a_message_that_is_no_task_keeps_its_bytes_too(broker: kombu.Connection):
    for body in BODIES.values():
        broker.Producer().publish(
            body, routing_key="q", content_type="application/data", content_encoding="binary"
        )
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, len(BODIES))
    assert [message.body for message in inbox] == list(BODIES.values())


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
@pytest.mark.parametrize("compression", [None, "zlib", "bzip2"])
def test_any_serializer_and_compression_is_read_back(
    broker: kombu.Connection, connection: Connection, serializer: str, compression: str | None
):
    if serializer == "yaml":
        pytest.importorskip("yaml")
    body = [[1, "a\x00b", "ü"], {"x": 1.5}, {}]
    id = publish_task(broker, "q", body, serializer=serializer, compression=compression)
    with consuming(broker) as inbox:
        drain(broker, inbox, 1)
    inbox[0].accept = {inbox[0].content_type}
    assert inbox[0].decode() == body
    assert (bytes(get_row(connection, id)["body"]) != inbox[0].body) == bool(compression)


@pytest.mark.parametrize("retry", [True, False])
def test_an_unknown_compression_is_the_error_that_redis_has(
    make_app: Callable[..., Celery], retry: bool
):
    with pytest.raises(OperationalError, match="nonsense") as raised:
        make_app().send_task("tests.one", compression="nonsense", retry=retry)
    assert isinstance(raised.value.__cause__, KeyError)


def test_headers_with_nul_and_nan_come_back(broker: kombu.Connection):
    at = datetime(2024, 5, 17, 12, 0, tzinfo=timezone.utc)
    publish_task(broker, headers={"nul": "a\x00b", "nan": float("nan"), "at": at, "raw": b"\xff"})
    with consuming(broker) as inbox:
        drain(broker, inbox, 1)
    headers = inbox[0].headers
    assert headers["nul"] == "a\x00b"
    assert math.isnan(headers["nan"])
    assert headers["at"] == at
    assert headers["raw"] == b"\xff"


def test_a_header_that_looks_like_kombus_marker_wedges_nothing(
    broker: kombu.Connection, connection: Connection
):
    id = publish_task(broker, headers={"odd": {"__type__": "nonsense", "__value__": 1}})
    other = publish_task(broker)
    with consuming(broker, ack=True) as inbox:
        drain(broker, inbox, 1)
    states = wait_for(
        lambda: {get_row(connection, each)["state"] for each in (id, other)} - {"executing"}
    )
    assert "completed" in states


def test_a_body_that_is_too_large_is_refused_with_the_remedy(
    connect: Callable[..., kombu.Connection], connection: Connection
):
    broker = connect(max_body_size=1000)
    for headers in ({"task": "t", "id": "i"}, {}):
        with pytest.raises(BodyTooLarge, match=r"1,001 bytes.*max_body_size.*pass a reference"):
            broker.Producer().publish("x" * 1001, routing_key="q", headers=headers)
        broker.Producer().publish("x" * 1000, routing_key="q", headers=headers)
    assert len(get_rows(connection)) == len(get_rows(connection, "messages")) == 1


def test_properties_are_kept_but_for_those_that_json_cannot_hold(broker: kombu.Connection):
    publish_task(broker, app_id="mine", correlation_id="c", tags=["a"], callback=object())
    broker.Producer().publish({}, routing_key="q", reply_to="there", sock=object())
    with consuming(broker) as inbox:
        drain(broker, inbox, 2)
    task, other = sorted(inbox, key=lambda message: message.row or 0)
    assert task.properties["app_id"] == "mine"
    assert task.properties["correlation_id"] == "c"
    assert other.properties["reply_to"] == "there"
    assert task.properties["tags"] == ["a"]
    assert not {"callback", "sock"} & {*task.properties, *other.properties}


def test_a_header_that_cannot_be_written_is_refused(
    broker: kombu.Connection, connection: Connection
):
    with pytest.raises(MessageRefused, match="header"):
        publish_task(broker, headers={"odd": object()})
    with pytest.raises(MessageRefused, match="NUL"):
        publish_task(broker, id="a\x00b")
    message = broker.default_channel.prepare_message("", properties={"expiration": "soon"})
    with pytest.raises(MessageRefused, match="milliseconds"):
        broker.default_channel.basic_publish(message)
    assert not get_rows(connection)
    assert not get_rows(connection, "messages")


@pytest.mark.parametrize("column", ["root_id", "parent_id", "group"])
def test_a_nul_in_a_related_id_is_refused_and_not_cut_off(
    broker: kombu.Connection, connection: Connection, column: str
):
    with pytest.raises(MessageRefused, match="NUL"):
        publish_task(broker, headers={column: "a\x00b"})
    with pytest.raises(MessageRefused, match="NUL"):
        publish_task(broker, "q\x00x")
    assert not get_rows(connection)


def test_names_of_200_characters_and_any_alphabet_are_queues(
    broker: kombu.Connection, connection: Connection
):
    names = ["q" * 200, "ü" * 200, 'it\'s "quoted", {braced} \\ and % 100', "a.b-c:d/e"]
    for name in names:
        with consuming(broker, name, ack=True) as inbox:
            assert is_quiet(broker, 0.0)
            id = publish_task(broker, name)
            broker.Producer().publish({}, routing_key=name)
            drain(broker, inbox, 2, timeout=2.0)
        assert get_row(connection, id)["queue"] == name


# The same id again


def test_an_id_that_still_waits_is_the_same_job(broker: kombu.Connection, connection: Connection):
    publish_task(broker, "q", [[1], {}, {}], id="same", priority=1)
    (before,) = get_rows(connection)
    publish_task(broker, "elsewhere", [[2], {}, {}], id="same", priority=2)
    assert get_rows(connection) == [before]
    publish_task(broker, id="later", headers={"eta": "2100-01-01T00:00:00+00:00"})
    publish_task(broker, id="later")
    assert get_row(connection, "later")["state"] == "scheduled"


def test_an_id_that_has_finished_runs_anew(broker: kombu.Connection, connection: Connection):
    publish_task(broker, "q", [[1], {}, {}], id="again")
    with consuming(broker) as inbox:
        drain(broker, inbox, 1)
        inbox[0].reject()
        wait_for(lambda: get_row(connection, "again")["state"] == "discarded")
        first = get_row(connection, "again")
        assert first["errors"]
        publish_task(broker, "q", [[2], {}, {}], id="again")
        row = get_row(connection, "again")
        assert row["id"] > first["id"]
        assert (row["state"], row["attempt"]) == ("available", 0)
        assert row["errors"] == []
        assert row["finished_at"] is None
        assert row["inserted_at"] > first["inserted_at"]
        drain(broker, inbox, 2)
        assert inbox[1].payload == [[2], {}, {}]
        assert inbox[1].delivery_info["redelivered"] is False


def test_a_stranger_who_publishes_a_running_id_changes_nothing(
    broker: kombu.Connection, connection: Connection
):
    publish_task(broker, id="running")
    with consuming(broker) as inbox:
        drain(broker, inbox, 1)
        before = get_row(connection, "running")
        publish_task(broker, "other", [[2], {}, {}], id="running", headers={"retries": 1})
        assert get_row(connection, "running") == before
        inbox[0].ack()
        wait_for(lambda: get_row(connection, "running")["state"] == "completed")


def test_an_id_that_was_acknowledged_just_now_runs_anew(
    broker: kombu.Connection, connection: Connection
):
    publish_task(broker, id="again")
    for _ in range(3):
        message = broker.default_channel.basic_get("q")
        assert message is not None
        message.ack()
        publish_task(broker, id="again")
    assert get_row(connection, "again")["state"] == "available"


def test_an_id_whose_end_another_thread_is_writing_runs_anew(
    broker: kombu.Connection, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """The outcome is noted no more, and not in the row yet."""
    publish_task(broker, id="again")
    message = broker.default_channel.basic_get("q")
    assert message is not None
    is_writing, may_write = threading.Event(), threading.Event()
    turn = Claims.turn

    def turn_later(*args: Any, **options: Any) -> Turn:
        is_writing.set()
        assert may_write.wait(30)
        return turn(*args, **options)

    monkeypatch.setattr(Claims, "turn", turn_later)
    message.ack()
    assert is_writing.wait(30)  # the node's own thread does
    with ThreadPoolExecutor() as threads:
        published = threads.submit(publish_task, broker, id="again")
        assert not wait([published], timeout=0.3).done
        may_write.set()
        published.result(30)
    assert get_row(connection, "again")["state"] == "available"


# Routes


def declare(broker: kombu.Connection, exchange: Exchange, **queues: str) -> None:
    for name, key in queues.items():
        Queue(name, exchange, routing_key=key)(broker.default_channel).declare()


def put(connection: Connection, table: str = "messages") -> list[str]:
    """The queues of what was published, which is then removed."""
    rows: list[dict[str, Any]] = connection.execute(
        f"DELETE FROM pgjobs.{table} RETURNING queue"
    ).fetchall()
    return sorted(row["queue"] for row in rows)


def test_a_task_through_a_named_exchange_to_one_queue_is_a_job(
    broker: kombu.Connection, connection: Connection
):
    exchange = Exchange("tasks", "direct")
    declare(broker, exchange, one="k", two="other")
    id = publish_task(broker, "k", exchange=exchange)
    assert get_row(connection, id)["queue"] == "one"
    with consuming(broker, "one") as inbox:
        drain(broker, inbox, 1)
    info = {"exchange": "tasks", "routing_key": "k", "priority": 0, "redelivered": False}
    assert inbox[0].delivery_info == info
    assert put(connection) == []


def test_a_task_to_several_queues_is_a_message_for_each(
    broker: kombu.Connection, connection: Connection
):
    exchange = Exchange("everybody", "fanout")
    declare(broker, exchange, one="", two="")
    publish_task(broker, "", exchange=exchange)
    assert not get_rows(connection)
    with consuming(broker, "one", "two", ack=True) as inbox:
        drain(broker, inbox, 2)
    assert {message.headers["task"] for message in inbox} == {"tests.add"}


def test_a_task_that_reaches_no_queue_warns(
    broker: kombu.Connection, connection: Connection, caplog: pytest.LogCaptureFixture
):
    exchange = Exchange("tasks", "direct")
    declare(broker, exchange, one="k")
    with caplog.at_level(logging.WARNING, "pgjobs_celery"):
        id = publish_task(broker, "nowhere", exchange=exchange)
    assert f"tests.add[{id}] reaches no queue" in caplog.text
    assert "'nowhere'" in caplog.text
    assert not get_rows(connection)
    caplog.clear()
    Exchange("nobody", "fanout")(broker.default_channel).declare()
    publish_task(broker, "", exchange="nobody")
    assert not caplog.records


@pytest.mark.parametrize(
    ("durable", "mode"), [(True, "persistent"), (False, "transient"), (True, None)]
)
def test_a_message_is_stored_as_durably_as_it_asks(
    broker: kombu.Connection, connection: Connection, durable: bool, mode: str | None
):
    broker.Producer().publish({}, routing_key="q", delivery_mode=mode, priority=7)
    (row,) = get_rows(connection, "messages")
    assert (row["durable"], row["priority"], row["claimed_by"]) == (durable, 7, None)
    partition = "messages_durable" if durable else "messages_transient"
    assert get_rows(connection, partition) == [row]


def test_an_expired_message_is_neither_counted_nor_delivered(
    broker: kombu.Connection, connection: Connection
):
    for no_ack in (True, False):
        broker.Producer().publish("dead", routing_key="q", expiration=0.001)
        broker.Producer().publish("alive", routing_key="q", expiration=60)
        broker.Producer().publish("for ever", routing_key="q")
        wait_for(lambda: get_rows(connection, "messages", "expires_at < now()"))
        assert broker.default_channel.queue_declare("other").message_count == 0
        broker.default_channel.queue_declare("q")
        assert broker.default_channel.queue_declare("q", passive=True).message_count == 2
        with consuming(broker, ack=not no_ack, no_ack=no_ack) as inbox:
            drain(broker, inbox, 2)
            assert is_quiet(broker, 0.0)
        assert [message.payload for message in inbox] == ["alive", "for ever"]
        connection.execute("DELETE FROM pgjobs.messages")


def test_a_queues_message_ttl_bounds_that_of_its_messages(
    broker: kombu.Connection, connection: Connection
):
    exchange = Exchange("x", "fanout")
    Queue("brief", exchange, message_ttl=5)(broker.default_channel).declare()
    broker.Producer().publish({}, routing_key="brief")
    broker.Producer().publish({}, exchange=exchange)
    broker.Producer().publish({}, routing_key="brief", expiration=2)
    broker.Producer().publish({}, routing_key="brief", expiration=600)
    lives = [
        round((row["expires_at"] - row["inserted_at"]).total_seconds(), 3)
        for row in get_rows(connection, "messages")
    ]
    assert lives == [5, 5, 2, 5]


def test_the_shell_of_celery_amqp_publishes_bare_text(broker: kombu.Connection, url: str):
    broker.default_channel.queue_declare("q")
    command = ["-b", url, "amqp", "basic.publish", "hello", "", "q"]
    subprocess.run([sys.executable, "-m", "celery", *command], check=True, timeout=30)
    message = broker.default_channel.basic_get("q", no_ack=True)
    assert message is not None
    assert bytes(message.body) == b"hello"
