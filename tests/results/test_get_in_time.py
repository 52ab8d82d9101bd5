"""``get(timeout=...)`` ends in time, whatever the server does, and leaves nothing behind on it."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
import pytest
from celery import Celery, group
from celery.exceptions import TimeoutError as CeleryTimeoutError

from pgjobs_celery import aget
from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database, OutOfTime, answered_by
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer

from ..conftest import Connection, close_app
from ..support.getters import new
from ..support.waiting import wait_for

#: The server is let go again after so long, and by then nobody may be waiting any more.
HELD = 30.0

TIMEOUT = 0.5

SESSIONS = """
SELECT count(*) AS n FROM pg_stat_activity
WHERE application_name = 'pgjobs-celery' AND wait_event_type = 'Lock'
"""


@contextmanager
def let_go_after(let_go: Callable[[], Any]) -> Iterator[threading.Event]:
    """Call ``let_go`` at the end, or when the test hangs for long; the event says that it does."""
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        let_go()

    timer = threading.Timer(HELD, end)
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()
        if not is_late.is_set():
            let_go()


def wait_in_vain(result: Any, way: str) -> None:
    def wait() -> Any:
        if way == "aget":
            return asyncio.run(aget(result, timeout=TIMEOUT))
        return result.get(timeout=0 if way == "look" else TIMEOUT)

    with pytest.raises(CeleryTimeoutError):
        wait()


WAYS = ["get", "look", "aget"]


@pytest.mark.parametrize("is_first", [True, False], ids=["first wait", "later wait"])
@pytest.mark.parametrize("way", WAYS)
def test_while_the_table_is_locked(
    way: str, is_first: bool, make_app: Callable[..., Celery], url: str, connection: Connection
) -> None:
    app = make_app(broker_transport_options={"ask_after": 1.0})
    done = new(app)
    app.backend.mark_as_done(done.id, 1)
    if not is_first:
        assert done.get(timeout=20) == 1
    with psycopg.connect(parse_url(url)) as holder:
        holder.execute("LOCK TABLE pgjobs.jobs IN ACCESS EXCLUSIVE MODE")
        with let_go_after(holder.rollback) as is_late:
            for _ in range(3):
                wait_in_vain(new(app), way)
            assert not is_late.is_set()
            if way != "aget":  # the thread that waits for others has no end in sight
                # Who asks again and again must not use up the server's sessions.
                wait_for(lambda: connection.execute(SESSIONS).fetchone()["n"] == 0)
    assert app.AsyncResult(done.id).get(timeout=20) == 1


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedServer]:
    """A server that may be stopped in the middle of what it does."""
    with EmbeddedServer() as server:
        with migrations.session(parse_url(server.url)) as session:
            migrations.migrate(session, "pgjobs")
        yield server


@pytest.fixture
def own_app(own_server: EmbeddedServer) -> Iterator[Celery]:
    app = Celery(broker=own_server.url, backend=own_server.url, set_as_current=False)
    yield app
    close_app(app)


@contextmanager
def stopped(server: EmbeddedServer) -> Iterator[threading.Event]:
    """All processes of the server, which accepts connections and answers nothing."""
    assert server.pid is not None
    postmaster = psutil.Process(server.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)

    def go_on() -> None:
        for process in processes:
            process.send_signal(signal.SIGCONT)

    with let_go_after(go_on) as is_late:
        yield is_late


@pytest.mark.parametrize("is_first", [True, False], ids=["first wait", "later wait"])
@pytest.mark.parametrize("way", WAYS)
def test_while_the_server_is_stopped(
    way: str, is_first: bool, own_server: EmbeddedServer, own_app: Celery
) -> None:
    done = new(own_app)
    own_app.backend.mark_as_done(done.id, 1)
    if is_first:
        close_app(own_app)
    else:
        assert done.get(timeout=20) == 1
    with stopped(own_server) as is_late:
        wait_in_vain(new(own_app), way)
        wait_in_vain(own_app.AsyncResult(done.id), way)
        assert not is_late.is_set()
    assert own_app.AsyncResult(done.id).get(timeout=20) == 1


def test_a_group_and_a_result_that_is_iterated_over(
    own_server: EmbeddedServer, own_app: Celery
) -> None:
    @own_app.task(name="never")
    def never() -> None: ...

    results = group(never.s() for _ in range(3)).delay()
    with stopped(own_server) as is_late:
        for wait in (results.get, results.join, lambda **o: list(results.iter_native(**o))):
            with pytest.raises(CeleryTimeoutError):
                wait(timeout=TIMEOUT)
        assert not is_late.is_set()


def test_who_waits_without_a_limit_waits_on(own_server: EmbeddedServer, own_app: Celery) -> None:
    result, got = new(own_app), []
    thread = threading.Thread(target=lambda: got.append(result.get()))
    thread.start()
    with stopped(own_server):
        wait_in_vain(new(own_app), "get")  # meanwhile somebody else gives up
        assert thread.is_alive()
    own_app.backend.mark_as_done(result.id, 5)
    thread.join(20)
    assert got == [5]


def test_a_limit_holds_for_a_place_in_the_pool_and_for_this_thread_only(url: str) -> None:
    database = Database(parse_url(url), Options(pool_size=1))
    with database.connection():
        errors: list[BaseException] = []

        def wait() -> None:
            try:
                with answered_by(time.monotonic() + 0.2):
                    database.fetch("ping")
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(HELD)
        assert [type(error) for error in errors] == [OutOfTime]
    assert database.fetch("ping") == [(True,)]
    database.close()


def test_what_a_callback_does_has_no_limit(make_app: Callable[..., Celery]) -> None:
    app = make_app()
    result, slept = new(app), []

    def sleep(_: Any) -> None:
        with app.backend.database.connection() as own:
            slept.append(own.psycopg.execute("SELECT pg_sleep(1.5)").rowcount)

    result.then(sleep)
    app.backend.mark_as_done(result.id, 1)
    assert result.get(timeout=0.5) == 1
    assert slept == [1]
