from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import kombu
import pytest
from celery import Celery, _state
from kombu import Exchange, Queue

from ..conftest import Connection
from ..support.consumers import consuming, drain, get_row, is_quiet, publish_task


def in_seconds(seconds: float, start: datetime | None = None) -> str:
    return ((start or datetime.now(timezone.utc)) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def current_app(make_app: Callable[..., Celery]) -> Iterator[Celery]:
    """An app far from UTC, as the current one."""
    before = _state.get_current_app()
    app = make_app(timezone="Asia/Tokyo", enable_utc=False)
    app.set_current()
    yield app
    _state._set_current_app(before)


def test_a_job_waits_in_its_row_until_it_is_due(
    connect: Callable[..., kombu.Connection], connection: Connection
):
    producer, consumer = connect(), connect(poll_interval=30.0)
    eta = in_seconds(0.7)
    publish_task(producer, id="later", headers={"eta": eta})
    row = get_row(connection, "later")
    assert row["state"] == "scheduled"
    assert row["scheduled_at"] == row["due_at"] == datetime.fromisoformat(eta)
    with consuming(consumer, ack=True) as inbox:
        assert is_quiet(consumer)
        drain(consumer, inbox, 1)
        late = datetime.now(timezone.utc) - datetime.fromisoformat(eta)
    assert timedelta(0) <= late < timedelta(seconds=10)
    assert inbox[0].headers["eta"] is None
    row = get_row(connection, "later")
    assert row["due_at"] is None
    assert row["scheduled_at"] == datetime.fromisoformat(eta)


@pytest.mark.parametrize(
    "options", [{"poll_interval": 30.0}, {"listen": False, "poll_interval": 0.2}]
)
def test_a_job_that_is_due_before_the_others_is_not_late(
    connect: Callable[..., kombu.Connection], options: dict[str, float]
):
    producer, consumer = connect(), connect(**options)
    publish_task(producer, headers={"eta": in_seconds(3600)})
    with consuming(consumer) as inbox:
        assert is_quiet(consumer)
        start = time.monotonic()
        publish_task(producer, id="nearer", headers={"eta": in_seconds(0.3)})
        drain(consumer, inbox, 1)
        assert 0.2 < time.monotonic() - start < 10
    assert inbox[0].headers["id"] == "nearer"


def test_due_jobs_come_in_the_order_of_their_times(broker: kombu.Connection):
    now = datetime.now(timezone.utc)
    for delay in (0.5, 0.3, 0.4):
        publish_task(broker, id=str(delay), headers={"eta": in_seconds(delay, now)})
    with consuming(broker) as inbox:
        drain(broker, inbox, 3)
    assert [message.headers["id"] for message in inbox] == ["0.3", "0.4", "0.5"]


def test_a_time_that_has_passed_is_now(broker: kombu.Connection, connection: Connection):
    publish_task(broker, id="late", headers={"eta": in_seconds(-60)})
    assert get_row(connection, "late")["state"] == "available"
    with consuming(broker) as inbox:
        drain(broker, inbox, 1)
    assert inbox[0].headers["eta"] is None


def test_a_time_without_a_zone_is_in_that_of_the_app(
    broker: kombu.Connection, connection: Connection, current_app: Celery
):
    publish_task(broker, id="naive", headers={"eta": "2100-01-01T12:00:00"})
    publish_task(broker, id="aware", headers={"eta": "2100-01-01T12:00:00+02:00"})
    publish_task(broker, id="zulu", headers={"eta": "2100-01-01T12:00:00Z"})
    hours = {id: get_row(connection, id)["due_at"].astimezone(timezone.utc).hour
             for id in ("naive", "aware", "zulu")}  # fmt: skip
    assert hours == {"naive": 3, "aware": 10, "zulu": 12}


def test_a_time_that_cannot_be_read_is_left_to_the_worker_to_refuse(
    broker: kombu.Connection, connection: Connection
):
    publish_task(broker, id="odd", headers={"eta": "next tuesday", "expires": "never"})
    row = get_row(connection, "odd")
    assert (row["state"], row["expires_at"]) == ("available", None)
    with consuming(broker) as inbox:
        drain(broker, inbox, 1)
    assert inbox[0].headers["eta"] == "next tuesday"


def test_a_copy_for_several_queues_keeps_its_eta_for_the_worker_to_hold(
    broker: kombu.Connection,
):
    exchange = Exchange("everybody", "fanout")
    for name in ("one", "two"):
        Queue(name, exchange)(broker.default_channel).declare()
    eta = in_seconds(3600)
    publish_task(broker, "", exchange=exchange, headers={"eta": eta})
    with consuming(broker, "one", "two") as inbox:
        drain(broker, inbox, 2)
    assert [message.headers["eta"] for message in inbox] == [eta, eta]
