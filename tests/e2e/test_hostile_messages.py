"""A bad message stops nobody: it is set aside with its reason, and the worker goes on."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from celery import Celery
from celery.exceptions import TimeoutError

from ..conftest import Connection
from ..support.waiting import wait_for
from . import async_add, tasks
from .conftest import StartWorker, Worker
from .hostile import MESSAGES, ROWS, broadcast, pairs_of_rows, write_rows
from .rows import FINAL, Row, Rows

#: What a pool needs.
NEEDED = {"gevent": "gevent", "eventlet": "eventlet", "custom": "greenlet"}

POOLS = [
    pytest.param(
        pool,
        marks=pytest.mark.skipif(
            pool in NEEDED and find_spec(NEEDED[pool]) is None,
            reason=f"{NEEDED.get(pool)} is not installed",
        ),
    )
    for pool in ("prefork", "threads", "solo", *NEEDED)
]


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", params=POOLS)
def running(module_worker: StartWorker, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One worker in each pool, for all tests; it must leave in peace."""
    options = async_add.OPTIONS if request.param == "custom" else {"pool": request.param}
    started = module_worker(**options, mingle=True)
    yield started
    assert started.stop() == 0


def assert_works(running: Worker) -> None:
    """Jobs run, more than it has slots: none is held for ever."""
    results = [tasks.add.delay(1, 2) for _ in range(4)]
    try:
        assert [result.get(timeout=20) for result in results] == [3] * 4
        assert running.process.poll() is None
    except (AssertionError, TimeoutError):
        pytest.fail(running.log[-6_000:])


def assert_unharmed(running: Worker, rows: Rows, ids: dict[str, str]) -> None:
    """All of them have come to their end, those that failed with a reason, and jobs still run."""
    assert_works(running)

    def unfinished() -> dict[str, str]:
        return {name: row["state"] for name, row in look().items() if row["state"] not in FINAL}

    def look() -> dict[str, Row]:
        # Not whole rows: they hold times that Python has not.
        states = rows.select("SELECT task_id, state, errors FROM pgjobs.jobs")
        by_id = {row["task_id"]: row for row in states}
        return {name: by_id[task_id] for name, task_id in ids.items()}

    wait_for(lambda: not unfinished(), 20.0, unfinished)
    unexplained = [
        name for name, row in look().items() if row["state"] == "discarded" and not row["errors"]
    ]
    assert unexplained == []


def test_hostile_messages_are_set_aside_and_the_worker_goes_on(
    running: Worker, app: Celery, rows: Rows, url: str
) -> None:
    ids = {name: message.publish(url) for name, message in MESSAGES.items()}
    assert_unharmed(running, rows, ids)


def test_hostile_commands_events_and_plain_messages_stop_nobody(
    running: Worker, app: Celery, url: str
) -> None:
    broadcast(url, "celery.pidbox", "fanout")
    for key in ("worker.heartbeat", "worker.online", "task.multi", "x"):
        broadcast(url, "celeryev", "topic", key)
    broadcast(url, "", "direct", "celery")
    assert_works(running)
    replies = wait_for(lambda: app.control.ping(timeout=1.0), 20.0)
    assert [list(reply.values()) for reply in replies] == [[{"ok": "pong"}]]
    assert running.process.poll() is None


def test_what_a_hand_has_written_into_a_row_is_set_aside_and_the_worker_goes_on(
    running: Worker, app: Celery, rows: Rows, connection: Connection
) -> None:
    names = [*ROWS, *pairs_of_rows(60)]
    ids = {name: tasks.add.apply_async((1, 2), countdown=3600).id for name in names}
    write_rows(connection, ids)
    assert_unharmed(running, rows, ids)
