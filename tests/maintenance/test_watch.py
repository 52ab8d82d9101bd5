"""Who has room, and does not look although jobs wait, is made to connect anew; nobody else is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import kombu
import psycopg
import pytest

from pgjobs_celery.broker.channel import Channel
from pgjobs_celery.maintenance.watch import Watch
from tests.support.consumers import consuming, is_quiet, publish_task

Connection = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def channel(broker: kombu.Connection) -> Iterator[Channel]:
    """A worker's, as far as its node knows, that consumes, and has not looked for long."""
    with consuming(broker):
        (channel,) = broker.transport.channels
        assert is_quiet(broker)
        channel.node.pool = SimpleNamespace(capacity=1, is_fed_by=lambda channel: True)
        channel.jobs._looked_at -= 60
        yield channel
        channel.node.pool = None


def look(channel: Channel, times: int = 2) -> None:
    """Have the service run."""
    watch = Watch(lambda: [channel], poll=5.0)
    for _ in range(times):
        watch.run(channel.database)


def test_who_does_not_look_for_jobs_that_wait_connects_anew(
    channel: Channel, broker: kombu.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    publish_task(broker)
    look(channel)
    assert "jobs wait in q" in caplog.text
    with pytest.raises(broker.recoverable_connection_errors, match="nobody has looked"):
        broker.drain_events(timeout=1)
    is_quiet(broker)  # it is said once


LOCK = "SELECT FROM pgjobs.jobs FOR UPDATE"
PAUSE = "INSERT INTO pgjobs.limits (queue, paused_at) VALUES ('q', now())"
LIMIT = "INSERT INTO pgjobs.limits (queue, concurrency) VALUES ('q', 1)"

EXCUSES: dict[str, Callable[[Channel], Any]] = {
    "it has looked": lambda channel: channel.jobs.deliver(0.0),
    "it has no room": lambda channel: setattr(channel.node.pool, "capacity", 0),
    "it consumes no more": lambda channel: channel.flow(False),
    "it has let go": lambda channel: channel.let_go(),
}


@pytest.mark.parametrize("excuse", EXCUSES)
def test_who_has_an_excuse_is_left_alone(
    channel: Channel, broker: kombu.Connection, caplog: pytest.LogCaptureFixture, excuse: str
) -> None:
    publish_task(broker)
    channel.jobs._plan.look_again()
    EXCUSES[excuse](channel)
    look(channel)
    assert caplog.text == ""


@pytest.mark.parametrize("statement", [LOCK, PAUSE, LIMIT])
def test_jobs_that_nobody_can_claim_are_not_missed(
    channel: Channel,
    broker: kombu.Connection,
    connection: Connection,
    caplog: pytest.LogCaptureFixture,
    statement: str,
) -> None:
    caplog.set_level(logging.WARNING)
    publish_task(broker)
    publish_task(broker, queue="another")
    connection.autocommit = statement != LOCK
    connection.execute(statement)
    look(channel)
    connection.commit()
    assert caplog.text == ""
