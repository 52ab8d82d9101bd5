"""Publish tasks and consume them through kombu, in this process and without a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import kombu
import psycopg
from kombu.message import Message

Row = dict[str, Any]


def publish_task(
    broker: kombu.Connection,
    queue: str = "q",
    body: Any = ((), {}, {}),
    *,
    id: str = "",
    headers: dict[str, Any] | None = None,
    **options: Any,
) -> str:
    """Publish what Celery would, message protocol 2; the task's id."""
    id = id or str(uuid4())
    headers = {"task": "tests.add", "id": id, **(headers or {})}
    options = {"routing_key": queue, "serializer": "json", **options}
    broker.Producer().publish(body, headers=headers, **options)
    return id


def publish_tasks(broker: kombu.Connection, count: int, queue: str = "q", **options: Any) -> None:
    """Publish that many; their bodies are ``[[index], {}, {}]``."""
    producer = broker.Producer()
    for index in range(count):
        producer.publish(
            ((index,), {}, {}),
            routing_key=queue,
            headers={"task": "tests.add", "id": str(uuid4())},
            **options,
        )


@contextmanager
def consuming(
    broker: kombu.Connection,
    *queues: str | kombu.Queue,
    ack: bool = False,
    no_ack: bool = False,
    prefetch: int = 0,
) -> Iterator[list[Message]]:
    """Consume on a channel of its own; the messages as they come."""
    inbox: list[Message] = []

    def on_message(message: Message) -> None:
        inbox.append(message)
        if ack:
            message.ack()

    with broker.channel() as channel:
        if prefetch:
            channel.basic_qos(0, prefetch, False)
        with kombu.Consumer(
            channel,
            [kombu.Queue(each) if isinstance(each, str) else each for each in queues or ("q",)],
            on_message=on_message,
            no_ack=no_ack,
        ):
            yield inbox


def drain(
    broker: kombu.Connection, inbox: Sequence[Message], count: int, timeout: float = 5.0
) -> None:
    """Deliver until there are ``count`` messages in the inbox; socket.timeout if that fails."""
    deadline = time.monotonic() + timeout
    while len(inbox) < count:
        broker.drain_events(timeout=max(0.0, deadline - time.monotonic()))


def is_quiet(broker: kombu.Connection, seconds: float = 0.1) -> bool:
    """True if nothing is delivered for that long."""
    try:
        broker.drain_events(timeout=seconds)
    except TimeoutError:
        return True
    return False


def drain_until_quiet(broker: kombu.Connection, seconds: float) -> None:
    """Deliver what comes, until nothing does for that long."""
    while not is_quiet(broker, seconds):
        pass


def args_of(message: Message) -> Any:
    """The first positional argument of the task."""
    return message.payload[0][0]


def get_rows(
    connection: psycopg.Connection[Row], table: str = "jobs", where: str = "true"
) -> list[Row]:
    """The rows of a table, in the order in which they came."""
    order = {"jobs": "seq", "messages": "id"}.get(table, "1")
    return connection.execute(
        f"SELECT * FROM pgjobs.{table} WHERE {where} ORDER BY {order}"
    ).fetchall()


def get_row(connection: psycopg.Connection[Row], id: str) -> Row:
    """The row of a job."""
    (row,) = connection.execute("SELECT * FROM pgjobs.jobs WHERE task_id = %s", [id]).fetchall()
    return row


def count_states(connection: psycopg.Connection[Row]) -> dict[str, int]:
    """How many jobs are in each state."""
    rows = connection.execute("SELECT state, count(*) FROM pgjobs.jobs GROUP BY state")
    return {row["state"]: row["count"] for row in rows}


def backends(connection: psycopg.Connection[Row], condition: str = "true") -> list[int]:
    """The server processes of this package's connections to the database."""
    # Within a transaction the first look is what all later ones see.
    connection.execute("SELECT pg_stat_clear_snapshot()")
    rows = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgjobs-celery' "
        f"AND datname = current_database() AND {condition}"
    )
    return [row["pid"] for row in rows]


def publish_both(broker: kombu.Connection) -> None:
    """Publish a job and a message that is not a job."""
    publish_task(broker, id="job")
    broker.Producer().publish([[None], {}, {}], routing_key="q")


def is_settled(connection: psycopg.Connection[Row], job: str) -> bool:
    """True once the job is in that state, and the message is gone."""
    return get_row(connection, "job")["state"] == job and not get_rows(connection, "messages")


def next_in(broker: kombu.Connection, queue: str = "q") -> Message:
    """The next message of a queue, by ``basic_get``."""
    message = broker.default_channel.basic_get(queue)
    assert message is not None
    return message
