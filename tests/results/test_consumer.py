"""Waiting for results: woken by LISTEN, polling as the net, one connection for all threads."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.exceptions import TimeoutError
from celery.result import GroupResult
from kombu.exceptions import ContentDisallowed

from pgjobs_celery.embedded import EmbeddedServer

from ..conftest import Connection
from ..support.busyness import Stopwatch
from ..support.getters import NEVER, getting, new
from ..support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("alone")

MakeApp = Callable[..., Celery]

#: LISTEN brings a result in milliseconds; this much is given to a busy machine.
SOON = 15.0


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app(broker_transport_options=NEVER)


def listeners(connection: Connection) -> int:
    (row,) = connection.execute(
        "SELECT count(DISTINCT pid) AS n FROM pg_locks JOIN pg_database AS d ON d.oid = database "
        "WHERE locktype = 'advisory' AND mode = 'ShareLock' AND datname = current_database()"
    ).fetchall()
    return int(row["n"])


# One result


def test_a_result_arrives_long_before_the_next_poll(app: Celery):
    result = new(app)
    with getting(app, result) as got:
        started = time.monotonic()
        app.backend.mark_as_done(result.id, 5)
    assert got == [5]
    assert time.monotonic() - started < SOON


def test_a_failure_arrives_too(app: Celery):
    result = new(app)
    with pytest.raises(KeyError), getting(app, result):
        app.backend.mark_as_failure(result.id, KeyError("no"))


def test_a_result_that_was_there_before_is_returned_at_once(app: Celery):
    result = new(app)
    app.backend.mark_as_done(result.id, 5)
    started = time.monotonic()
    assert result.get(timeout=20) == 5
    assert time.monotonic() - started < SOON


def test_without_listen_the_poll_finds_it(make_app: MakeApp, connection: Connection):
    app = make_app(broker_transport_options={"listen": False, "poll_interval": 0.2})
    result = new(app)
    with getting(app, result) as got:
        assert listeners(connection) == 0
        app.backend.mark_as_done(result.id, 5)
    assert got == [5]


def test_the_poll_finds_what_was_not_announced(make_app: MakeApp, connection: Connection):
    app = make_app(broker_transport_options={"poll_interval": 0.2})
    result = new(app)
    with getting(app, result) as got:
        connection.execute(
            "INSERT INTO pgjobs.jobs "
            "(task_id, task, queue, state, finished_at, result, result_type) "
            "VALUES (%s, 'x', 'q', 'completed', now(), '5', 'application/json')", [result.id],
        )  # fmt: skip
    assert got == [5]


@pytest.mark.parametrize("timeout", [0.05, 0.3, 1.2])
def test_a_wait_ends_in_time(app: Celery, timeout: float):
    result = new(app)
    watch = Stopwatch()
    with pytest.raises(TimeoutError):
        result.get(timeout=timeout)
    assert timeout <= watch.elapsed()
    assert watch.own() < timeout + 0.5


def test_no_time_to_wait_is_one_look(app: Celery):
    result = new(app)
    watch = Stopwatch()
    with pytest.raises(TimeoutError):
        result.get(timeout=0)
    assert watch.own() < 0.5
    app.backend.mark_as_done(result.id, 5)
    assert result.get(timeout=0) == 5


def test_a_result_that_timed_out_can_be_waited_for_again(app: Celery):
    result = new(app)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.05)
    app.backend.mark_as_done(result.id, 5)
    assert result.get(timeout=20) == 5


def test_on_interval_may_interrupt(app: Celery):
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        new(app).get(timeout=20, on_interval=stop)
    result = new(app)
    with getting(app, result) as got:
        app.backend.mark_as_done(result.id, 5)
    assert got == [5]


def test_a_signal_interrupts(app: Celery):
    class Stop(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(Stop):
            new(app).get(timeout=20)
    finally:
        signal.signal(signal.SIGALRM, previous)
    result = new(app)
    with getting(app, result) as got:
        app.backend.mark_as_done(result.id, 5)
    assert got == [5]


def test_an_id_given_as_uuid_is_waited_for(app: Celery):
    result = app.AsyncResult(uuid4())
    with getting(app, result) as got:
        app.backend.mark_as_done(str(result.id), 5)
    assert got == [5]


def test_on_message_sees_every_state(either: MakeApp):
    """Celery's documentation shows progress that way."""
    app = either()
    result, seen = new(app), []
    app.backend.store_result(result.id, {"done": 0}, "PROGRESS")
    progressed = threading.Event()

    def on_message(meta: dict[str, Any]) -> None:
        seen.append((meta["status"], meta["result"]))
        if meta["status"] == "PROGRESS":
            progressed.set()

    def work() -> None:
        for _ in range(20):  # until somebody listens
            app.backend.store_result(result.id, {"done": 1}, "PROGRESS")
            if progressed.wait(0.05):
                break
        app.backend.mark_as_done(result.id, 5)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert result.get(timeout=20, on_message=on_message) == 5
    finally:
        thread.join()
    assert ("PROGRESS", {"done": 1}) in seen
    assert seen[-1] == ("SUCCESS", 5)


def test_on_message_hears_what_was_said_before_the_wait(app: Celery):
    result, seen = new(app), []
    app.backend.store_result(result.id, {"done": 1}, "PROGRESS")

    def on_message(meta: dict[str, Any]) -> None:
        seen.append(meta["status"])
        if meta["status"] == "PROGRESS":
            app.backend.mark_as_done(result.id, 5)

    assert result.get(timeout=5, on_message=on_message) == 5
    assert seen == ["PROGRESS", "SUCCESS"]


def test_states_are_announced_only_to_who_wants_them(app: Celery, connection: Connection):
    """A waiter for the result alone is not woken by each step, and costs no NOTIFY."""
    connection.execute("LISTEN pgjobs_r_pgjobs")
    result = new(app)
    with getting(app, result) as got:
        wait_for(lambda: listeners(connection) == 1)
        for number in range(3):
            app.backend.store_result(result.id, number, "PROGRESS")
        app.backend.mark_as_done(result.id, 5)
    assert got == [5]
    heard = [message.payload for message in connection.notifies(timeout=5, stop_after=1)]
    assert heard == [f"r{result.id}"]


# Threads


def test_twelve_threads_wait_over_one_connection(app: Celery, connection: Connection):
    results = [new(app) for _ in range(12)]
    with getting(app, *results) as got:
        wait_for(lambda: len(app.backend.result_consumer._waiting) == 12)
        assert listeners(connection) == 1
        started = time.monotonic()
        for number, result in enumerate(results):
            app.backend.mark_as_done(result.id, number)
    assert sorted(got) == list(range(12))
    assert time.monotonic() - started < SOON


def test_twelve_threads_wait_for_the_same_result(app: Celery):
    task_id = str(uuid4())
    with getting(app, *(app.AsyncResult(task_id) for _ in range(12))) as got:
        app.backend.mark_as_done(task_id, 5)
    assert got == [5] * 12


def test_a_handle_waits_beside_one_that_gave_up(app: Celery):
    first = new(app)
    with pytest.raises(TimeoutError):
        first.get(timeout=0.1)
    second = app.AsyncResult(first.id)
    with getting(app, second) as got:
        app.backend.mark_as_done(first.id, 5)
    assert got == [5]
    assert first.get(timeout=0) == 5
    assert not app.backend.result_consumer._waiting


def test_a_handle_waits_on_when_the_first_is_gone(app: Celery):
    first = new(app)
    first.then(lambda _: None, weak=True)
    second = app.AsyncResult(first.id)
    with getting(app, second) as got:
        del first
        app.backend.mark_as_done(second.id, 5)
    assert got == [5]


def test_a_web_servers_threads_publish_and_wait(app: Celery):
    """Each request waits for its own, while a worker (here a thread) finishes them out of order."""
    waiting: list[str] = []
    done = threading.Event()

    def finish() -> None:
        while not done.is_set():
            while waiting:
                task_id = waiting.pop()
                app.backend.mark_as_done(task_id, task_id)
            done.wait(0.002)

    def serve(_: int) -> bool:
        result = new(app)
        waiting.append(result.id)
        return bool(result.get(timeout=20) == result.id)

    worker = threading.Thread(target=finish)
    worker.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(serve, range(200)))
    finally:
        done.set()
        worker.join()


def test_one_result_that_cannot_be_read_fails_nobody_else(make_app: MakeApp):
    app = make_app(accept_content=["json"], broker_transport_options=NEVER)
    pickler = make_app(result_serializer="pickle")
    good, bad = new(app), new(app)
    with getting(app, good) as got:
        with getting(app, bad, propagate=False) as refused:
            wait_for(lambda: len(app.backend.result_consumer._waiting) == 2)
            pickler.backend.mark_as_done(bad.id, 1)
        assert [type(error) for error in refused] == [ContentDisallowed]
        app.backend.mark_as_done(good.id, 5)
    assert got == [5]


def test_an_id_that_no_row_can_have_fails_nobody_else(app: Celery):
    good = new(app)
    with getting(app, good) as got:
        for task_id in ("a\0b", "\ud800"):
            with pytest.raises(TimeoutError):
                app.AsyncResult(task_id).get(timeout=0.05)
        app.backend.mark_as_done(good.id, 5)
    assert got == [5]


def test_results_are_registered_while_the_reader_is_busy(app: Celery):
    """Thousands at once, from another thread: more than any socket buffer holds."""
    consumer = app.backend.result_consumer
    first = new(app)
    busy, release = threading.Event(), threading.Event()

    def on_message(meta: dict[str, Any]) -> None:
        busy.set()
        assert release.wait(20)

    with getting(app, first, on_message=on_message) as got:
        app.backend.mark_as_done(first.id, 5)
        assert busy.wait(20)
        for number in range(3000):
            consumer.consume_from(f"id{number}")
            consumer.cancel_for(f"id{number}")
        release.set()
    assert got == [5]


def test_what_nobody_waits_for_any_more_is_let_go(app: Celery):
    consumer = app.backend.result_consumer
    group = GroupResult("g", [new(app) for _ in range(50)])
    assert len(consumer._waiting) == 50
    group.forget()
    assert (consumer._waiting, consumer._new) == (set(), set())


def test_a_connection_over_which_nobody_waits_is_closed(
    app: Celery, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """Nobody reads from it: its session, and the server's notifications with it, would stop."""
    monkeypatch.setattr("pgjobs_celery.results.consumer.IDLE", 0.3)
    done, late = new(app), new(app)
    with getting(app, done) as got:
        app.backend.mark_as_done(done.id, 5)
    with pytest.raises(TimeoutError):
        late.get(timeout=0.1)
    assert (got, listeners(connection)) == ([5], 1)
    wait_for(lambda: listeners(connection) == 0)
    # One that is waited for again, and one over a wait longer than that.
    with getting(app, late) as got:
        time.sleep(0.7)  # longer than a connection is kept over which nobody waits
        assert listeners(connection) == 1
        app.backend.mark_as_done(late.id, 6)
    assert got == [6]


def test_a_process_with_thousands_of_files_open_waits(app: Celery):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1300:
        pytest.skip("no more than 1300 files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1300, hard))
    taken: list[int] = []
    result = new(app)
    try:
        while not taken or taken[-1] < 1030:
            taken.append(os.dup(0))
        with getting(app, result) as got:
            app.backend.mark_as_done(result.id, 5)
        assert got == [5]
    finally:
        for descriptor in taken:
            os.close(descriptor)
        app.backend.close()
        app.backend.database.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The server restarts, the process forks


def test_a_cut_connection_is_replaced(app: Celery, connection: Connection):
    result = new(app)
    with getting(app, result) as got:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        app.backend.mark_as_done(result.id, 5)
    assert got == [5]


def test_a_restart_of_the_server_is_waited_out(server: EmbeddedServer, app: Celery):
    result, later = new(app), new(app)
    with getting(app, result, later) as got:
        wait_for(lambda: len(app.backend.result_consumer._waiting) == 2)
        server.restart()
        app.backend.mark_as_done(result.id, 5)
        wait_for(lambda: got == [5])
        app.backend.mark_as_done(later.id, 6)
    assert got == [5, 6]


@pytest.mark.parametrize("waiting", [True, False], ids=["while a thread waits", "after a wait"])
def test_a_forked_child_waits_by_itself(app: Celery, waiting: bool):
    """As a preloading web server forks: no hook of billiard's or multiprocessing's is called."""
    parents, childs = new(app), new(app)
    with getting(app, parents) as got:
        if not waiting:
            app.backend.mark_as_done(parents.id, 5)
            wait_for(lambda: got == [5])
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(20)
                theirs.send(b"%d" % childs.get(timeout=10))
            finally:
                os._exit(0)
        theirs.close()
        app.backend.mark_as_done(childs.id, 7)
        assert ours.recv(10) == b"7"
        assert os.waitpid(pid, 0)[1] == 0
        if waiting:
            app.backend.mark_as_done(parents.id, 5)
    assert got == [5]
