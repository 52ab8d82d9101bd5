"""A job that waits longer than its message or its queue allows is not run, and its row says so."""

from __future__ import annotations

import time
from collections.abc import Callable

import kombu
from celery import Celery
from kombu import Queue

from pgjobs_celery import PgTask, Unique

from ..conftest import Connection
from ..support.consumers import consuming, drain, get_row, publish_task
from ..support.waiting import wait_for


def test_a_job_expires_with_its_message_or_its_queue(
    broker: kombu.Connection, connection: Connection, make_app: Callable[..., Celery]
):
    Queue("brief", message_ttl=0.2)(broker.default_channel).declare()
    Queue("q")(broker.default_channel).declare()
    app = make_app()

    @app.task(base=PgTask, unique=Unique())
    def one() -> None: ...

    one.apply_async(queue="brief", task_id="unique")
    late = ["unique", publish_task(broker, "brief", id="by queue")]
    late += [publish_task(broker, "q", id="by message", expiration=0.2)]
    kept = publish_task(broker, "q", id="kept", expiration=60)
    time.sleep(0.3)
    with consuming(broker, "brief", "q") as inbox:
        drain(broker, inbox, 1)
        assert [message.headers["id"] for message in inbox] == [kept]
        wait_for(lambda: {get_row(connection, id)["state"] for id in late} == {"cancelled"})
    (error,) = get_row(connection, "by queue")["errors"]
    assert "expired" in error["message"]
    assert {app.AsyncResult(id).state for id in late} == {"REVOKED"}


def test_a_job_that_is_scheduled_begins_to_wait_when_it_is_due(
    broker: kombu.Connection, connection: Connection
):
    Queue("brief", message_ttl=60)(broker.default_channel).declare()
    publish_task(broker, "brief", id="a", headers={"eta": "2100-01-01T00:00:00+00:00"})
    row = get_row(connection, "a")
    assert (row["expires_at"] - row["due_at"]).total_seconds() == 60
