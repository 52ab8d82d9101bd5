"""Calls of a task that are alike, each written before it returns, are made after the first."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import kombu
import psycopg
import pytest
from celery import Celery, signals
from kombu.exceptions import OperationalError

from pgjobs_celery import PgTask
from pgjobs_celery.control.app import database_of
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.failures import connection_failed
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.publishing import repeated
from pgjobs_celery.testing import testing

from ..conftest import Connection
from ..support.built import celerys_own, note_built
from ..support.consumers import get_rows
from ..support.proxies import Proxy
from .test_lanes import make_fair
from .test_repeated import KINDS, arguments, assert_rows_are_celerys, running, with_tasks

#: A call until which Celery builds the messages: the first is its own, the second is the sender's,
#: and after the third others are made.
BUILT = 3


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return with_tasks(make_app(task_publish_retry_policy={"max_retries": 1, "interval_start": 0}))


@pytest.fixture(params=["add", "plain"])
def add(app: Celery, request: pytest.FixtureRequest) -> Any:
    with app.connection() as broker:
        broker.channel()  # by which a process is known to publish to us
    return app.tasks[request.param]


@pytest.fixture
def built(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tasks whose messages Celery has built."""
    return note_built(app, monkeypatch)[0]


def warm(task: Any, *args: Any, **options: Any) -> None:
    """Have the next call that is alike made after those before."""
    for _ in range(BUILT):
        task.apply_async(args or (0,), **options)


@pytest.mark.parametrize("name", KINDS)
def test_the_rows_are_those_that_celery_publishes(app: Celery, connection: Connection, name: str):
    assert_rows_are_celerys(app, connection, app.tasks[name], nullcontext)


def test_celery_builds_the_first_only(
    app: Celery, add: Any, built: list[Any], connection: Connection
):
    for index in range(6):
        add.delay(index)
        assert arguments(connection)[-1] == [index]  # written by now
        add.apply_async((index,), queue="mail")
        app.tasks["silent"].delay(index)
    assert len(built) == 3 * BUILT
    assert [row["queue"] for row in get_rows(connection)] == ["celery", "mail", "celery"] * 6


def test_an_id_that_was_made_for_the_job_is_not_looked_for(
    add: Any, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """In a transaction it is: an error would end that."""
    statements: list[str] = []
    run = Database.run

    def run_and_note(self: Database, *transactions: Any) -> Any:
        statements.append(transactions[0][0].prepared.name.decode())
        return run(self, *transactions)

    warm(add)
    monkeypatch.setattr(Database, "run", run_and_note)
    add.delay(1)
    add.apply_async((2,), task_id="own")
    database = database_of(add.app)
    with database.transaction():
        add.delay(3)
    assert [each for each in statements if "insert" in each] == [
        "insert_fresh_job", "insert_new_job", "insert_new_job",
    ]  # fmt: skip
    assert arguments(connection)[BUILT:] == [[1], [2], [3]]


def test_a_call_that_says_more_for_itself_is_celerys(
    app: Celery, add: Any, built: list[Any], connection: Connection
):
    warm(add)
    built.clear()
    add.apply_async((1,), task_id="own")
    add.apply_async((2,), link=add.s())
    add.apply_async((3,), countdown=60)
    add.apply_async((4,), headers={"mine": 1})
    with app.connection() as broker:
        add.apply_async((5,), connection=broker)
    assert len(built) == 5
    rows = get_rows(connection)[BUILT:]
    assert rows[0]["task_id"] == "own"
    assert json.loads(rows[3]["message"])["headers"]["mine"] == 1
    assert rows[2]["due_at"] is not None


def test_arguments_and_options_are_checked_each_time(add: Any, connection: Connection):
    warm(add)
    with pytest.raises(TypeError, match="missing 1 required"):
        add.delay()
    with pytest.raises(TypeError, match="list or tuple"):
        add.apply_async("a")
    with pytest.raises(kombu.exceptions.EncodeError):
        add.delay(object())
    if isinstance(add, PgTask):
        with pytest.raises(InvalidOption):
            add.apply_async((1,), max_attempts=0)
    assert len(get_rows(connection)) == BUILT


def test_a_run_publishes_as_celery_does_and_has_them_for_children(
    app: Celery, add: Any, built: list[Any], connection: Connection
):
    warm(add)
    built.clear()
    with running(app.tasks["silent"], id="run", root_id="root") as request:
        own = [add.delay(index).id for index in range(5)]
    later = add.delay(5).id
    assert len(built) == 5
    assert [each.id for each in request.children] == own
    rows = {row["task_id"]: (row["parent_id"], row["root_id"]) for row in get_rows(connection)}
    assert [rows[each] for each in own] == [("run", "root")] * 5
    assert rows[later] == (None, later)


# What changes between two calls


def test_a_setting_that_is_changed_counts_from_then_on(
    app: Celery, add: Any, built: list[Any], connection: Connection
):
    warm(add)
    app.conf.task_always_eager = True
    assert [add.delay(1, 2).get() for _ in range(4)] == [3] * 4
    app.conf.task_always_eager = False
    assert len(get_rows(connection)) == BUILT
    app.conf.task_send_sent_event = True  # which only Celery's own way sends
    built.clear()
    warm(add)
    add.delay(1)
    assert len(built) == BUILT + 1
    assert len(get_rows(connection)) == 2 * BUILT + 1


def test_what_was_changed_in_place_counts_a_little_later(
    add: Any, built: list[Any], monkeypatch: pytest.MonkeyPatch
):
    warm(add)
    add.delay(1)
    assert len(built) == BUILT
    later = time.monotonic() + repeated.LIFETIME
    monkeypatch.setattr(repeated, "time", SimpleNamespace(monotonic=lambda: later))
    for index in range(5):
        add.delay(index)
    assert len(built) == 2 * BUILT


def test_a_task_that_ignores_its_results_from_now_on_does_as_in_celery(
    app: Celery, add: Any, monkeypatch: pytest.MonkeyPatch
):
    warm(add)
    assert not add.delay(1).ignored
    monkeypatch.setattr(add, "ignore_result", True)
    with celerys_own(app) as own:
        by_celery = add.apply_async((1,), **own)  # which 5.5 had decided at the first call
    assert [add.delay(2).ignored for _ in range(BUILT + 1)] == [by_celery.ignored] * (BUILT + 1)


def test_a_listener_is_told_of_each_from_when_it_is_connected(add: Any, connection: Connection):
    told: list[str] = []

    def before(headers: Any, body: Any, **_: Any) -> None:
        headers["traced"] = body[0][0]

    def after(headers: Any, **_: Any) -> None:
        told.append(headers["id"])

    warm(add)
    # A weak one that has died before keeps Celery 5.5 from hearing of those that come next.
    signals.before_task_publish.connect(before, weak=False)
    signals.after_task_publish.connect(after, weak=False)
    try:
        ids = [add.delay(1).id, add.delay(2).id]
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    add.delay(3)
    headers = [json.loads(row["message"])["headers"] for row in get_rows(connection)]
    assert [each.get("traced") for each in headers] == [None] * BUILT + [1, 2, None]
    assert told == ids


def test_a_rule_that_is_new_counts_from_then_on(app: Celery, add: Any, connection: Connection):
    warm(add, 1)
    make_fair(app, connection, "celery", "kwargs.x")
    warm(add, 2)
    add.delay(3)
    lanes = [row["lane"] for row in get_rows(connection)]
    assert lanes[:BUILT] == [None] * BUILT
    assert None not in lanes[BUILT:]


@pytest.mark.parametrize(
    "way", ["Celery.send_task", "app.send_task", "app.amqp.send_task_message", "Producer.publish"]
)
def test_a_mock_in_the_place_of_what_publishes_is_called(
    app: Celery, add: Any, connection: Connection, way: str
):
    owner = {
        "Celery": Celery, "app": app, "app.amqp": app.amqp, "Producer": kombu.Producer,
    }[way.rpartition(".")[0]]  # fmt: skip
    warm(add)
    with mock.patch.object(owner, way.rpartition(".")[2]) as mocked:
        for index in range(4):
            add.delay(index)
    assert mocked.call_count == 4
    assert len(get_rows(connection)) == BUILT
    add.delay(1)
    assert len(get_rows(connection)) == BUILT + 1


def test_a_test_captures_calls_that_are_alike(app: Celery, add: Any, connection: Connection):
    warm(add)
    for _ in range(2):
        with testing(app) as captured:
            warm(add)
            add.delay(5)
        assert len(captured.enqueued(add.name)) == BUILT + 1
        add.delay(6)
    assert arguments(connection)[BUILT:] == [[6], [6]]


def test_tasks_of_another_broker_are_published_there(add: Any, connection: Connection):
    other = Celery("other", broker="memory://", set_as_current=False)
    other.conf.task_default_queue = "written at once"

    def nothing(x: int) -> None: ...

    plain = other.task(name="plain", shared=False)(nothing)
    mine = other.task(name="mine", shared=False, base=PgTask)(nothing)
    with other.connection() as broker:
        results = [task.delay(index) for index in range(5) for task in (plain, mine)]
        queue = broker.SimpleQueue("written at once")
        found = [queue.get(timeout=5).headers["id"] for _ in results]
    assert found == [each.id for each in results]
    assert get_rows(connection) == []


# Threads and processes


def test_each_thread_has_its_own(app: Celery, add: Any, connection: Connection):
    oids: list[str] = []

    def publish() -> None:
        oids.append(app.thread_oid)
        for index in range(BUILT + 2):
            add.delay(index)

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publish()
    to = [json.loads(row["message"])["properties"]["reply_to"] for row in get_rows(connection)]
    assert sorted(to) == sorted(oids * (BUILT + 2))


def test_a_forked_process_has_its_own(add: Any, connection: Connection):
    warm(add)
    pid = os.fork()
    if pid == 0:
        try:
            for index in range(5):
                add.delay(index)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    add.delay(9)
    assert arguments(connection) == [[0]] * BUILT + [[0], [1], [2], [3], [4], [9]]


def test_an_app_that_is_dropped_goes(url: str):
    def publish() -> weakref.ref[Celery]:
        app = Celery("dropped", broker=url, backend=url, set_as_current=False)

        def nothing(x: int) -> None: ...

        warm(app.task(name="nothing", shared=False)(nothing))
        app.close()
        return weakref.ref(app)

    reference = publish()
    gc.collect()
    assert reference() is None


# Lost connections


def publish_through_errors(
    task: Any, monkeypatch: pytest.MonkeyPatch, errors: int, *, is_written: bool, **options: Any
) -> tuple[Any, int]:
    """Publish a job while so many of its statements fail; its handle, and how many ran."""
    run, left, ran = Database.run, [errors], [0]

    def run_and_fail(self: Database, *transactions: Any) -> Any:
        if not transactions[0][0].prepared.name.startswith(b"insert_"):
            return run(self, *transactions)
        ran[0] += 1
        if not left[0]:
            return run(self, *transactions)
        left[0] -= 1
        if is_written:
            run(self, *transactions)
            raise psycopg.OperationalError("the answer was cut off")
        raise connection_failed(psycopg.OperationalError("starting up"), self.conninfo)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "run", run_and_fail)
        return task.delay(5) if not options else task.apply_async((5,), **options), ran[0]


@pytest.mark.parametrize("is_written", [True, False])
def test_celery_tries_again_where_the_connection_is_lost(
    add: Any, connection: Connection, monkeypatch: pytest.MonkeyPatch, is_written: bool
):
    """With the same id, so that the job is there once, whether an answer was lost or a question."""
    warm(add)
    result, ran = publish_through_errors(add, monkeypatch, 2, is_written=is_written)
    assert ran >= 3
    assert [row["task_id"] for row in get_rows(connection)][BUILT:] == [result.id]
    assert add.delay(6).id == get_rows(connection)[-1]["task_id"]


def test_a_job_whose_answer_was_cut_off_is_there_once(url: str, connection: Connection):
    with Proxy(url) as proxy:
        app = with_tasks(Celery("cut", broker=proxy.url, set_as_current=False))
        add = app.tasks["add"]
        warm(add)
        proxy.cut_answer("insert_fresh_job")
        result = add.delay(5)
        assert proxy.cuts == 1
        add.delay(6)
        app.close()
    assert [row["task_id"] for row in get_rows(connection)].count(result.id) == 1
    assert arguments(connection) == [[0]] * BUILT + [[5], [6]]


def test_a_job_that_has_run_before_its_answer_was_lost_does_not_run_again(
    add: Any, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    warm(add)
    run, cut = Database.run, iter([True, True])

    def run_and_cut(self: Database, *transactions: Any) -> Any:
        rows = run(self, *transactions)
        if b"insert" in transactions[0][0].prepared.name and next(cut, False):
            connection.execute("UPDATE pgjobs.jobs SET state = 'completed', finished_at = now()")
            raise psycopg.OperationalError("the answer was cut off")
        return rows

    monkeypatch.setattr(Database, "run", run_and_cut)
    result = add.delay(5)
    assert next(cut, None) is None
    row = get_rows(connection)[-1]
    assert (row["task_id"], row["state"]) == (result.id, "completed")


def test_a_call_that_must_not_be_tried_again_raises_what_celery_raises(
    add: Any, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    warm(add, retry=False)
    with pytest.raises(OperationalError, match="starting up"):
        publish_through_errors(add, monkeypatch, 1, is_written=False, retry=False)
    assert len(get_rows(connection)) == BUILT
