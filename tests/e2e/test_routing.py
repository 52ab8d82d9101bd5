"""Tasks find their way through exchanges and bindings; what is no command harms no worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from amqp.exceptions import NotFound
from celery import Celery
from kombu import Exchange

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows

JSON = {"content_type": "application/json", "content_encoding": "utf-8"}

#: Bodies of control messages as no client sends them.
NONSENSE = [
    [1, 2, 3],
    "text",
    None,
    {},
    {"method": "no_such_command"},
    {"method": "ping", "arguments": "text"},
    {"method": "ping", "arguments": {"no_such_argument": 1}},
    {"method": "ping", "destination": 5},
    {"method": "ping", "reply_to": {"exchange": "nowhere"}, "ticket": 1},
    {"method": "ping", "reply_to": {"exchange": "nowhere", "routing_key": "x"}, "ticket": 1},
    {"method": "ping", "no_such_key": 1},
    {"method": "rate_limit", "arguments": {"task_name": 5, "rate_limit": [1]}},
    {"method": "add_consumer", "arguments": {"queue": ["q"]}},
    {"method": "no_such_command", "arguments": {"long": "x" * 1_000_000}},
]


def bindings(rows: Rows, exchange: str) -> list[str]:
    """The queues that are bound to an exchange."""
    found = rows.select("SELECT queue FROM pgjobs.bindings WHERE exchange = %s", exchange)
    return [row["queue"] for row in found]


def test_tasks_follow_exchanges_and_bindings(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    first, second = (worker(pool="threads", concurrency=2) for _ in range(2))
    control = app.control
    for each in (first, second):
        (reply,) = control.add_consumer(
            f"all-{each.name}", "everybody", "fanout", destination=[each.name], reply=True,
            options={"queue_auto_delete": True},
        )  # fmt: skip
        assert "ok" in reply[each.name]
    control.add_consumer(
        "topical", "topics", "topic", "a.#", destination=[first.name], reply=True, timeout=10
    )
    wait_for(lambda: len(bindings(rows, "everybody")) == 2 and bindings(rows, "topics"))
    lines = tmp_path / "lines"
    for value in range(5):
        tasks.record_host.apply_async((str(lines), value), exchange="everybody", routing_key="-")
    told = tasks.request_info.apply_async(exchange="topics", routing_key="a.b").get(timeout=10)
    assert told["hostname"] == first.name
    expected = sorted(f"{each.name} {value}" for each in (first, second) for value in range(5))
    wait_for(lambda: sorted(lines.read_text().splitlines()) == expected, message=lines.read_text)
    with pytest.raises(NotFound, match="no exchange 'nowhere'"):
        tasks.add.apply_async((1, 2), exchange="nowhere", routing_key="k")
    # A worker that leaves takes the queue that was its alone with it.
    first.stop()
    assert bindings(rows, "everybody") == [f"all-{second.name}"]
    assert not rows.select("SELECT name FROM pgjobs.queues WHERE name LIKE %s", f"%{first.name}%")


def test_nonsense_for_remote_control_harms_no_worker(worker: StartWorker, app: Celery) -> None:
    started = worker(pool="solo")

    def answers() -> bool:
        # Celery opens the mailbox anew after some errors, and what lies in it is lost.
        inspect = app.control.inspect([started.name], timeout=0.5)
        return inspect.ping() == {started.name: {"ok": "pong"}}

    with app.connection_for_write() as connection:
        producer = connection.Producer(exchange=Exchange("celery.pidbox", "fanout"))
        producer.publish(b"no { json", **JSON)
        producer.publish(b"\xff\xfe", content_type="text/plain", content_encoding="utf-8")
        producer.publish(b"\x80\x04N.", content_type="application/x-python-serialize")
        producer.publish(b"", content_type="application/no-such-type")
        for body in NONSENSE:
            producer.publish(body, serializer="json")
            wait_for(answers)
        producer.publish({"method": "ping"}, serializer="json", headers={"clock": "text"})
    wait_for(answers)
    app.control.add_consumer("q", "x", "no-such-type", reply=True, timeout=10, limit=1)
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
    for warning in (
        "Can't decode message body",
        "Control command error",
        "pidbox command error: KeyError('no_such_command')",
        "exchange 'x' cannot be of type no-such-type: use direct, fanout, topic",
    ):
        assert warning in started.log
