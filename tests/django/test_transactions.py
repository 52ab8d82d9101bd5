"""Publishing takes part in the transaction that Django is in, and in no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery, chord, group, signals
from celery.contrib.django.task import DjangoTask
from celery.contrib.testing.worker import start_worker
from celery.exceptions import TimeoutError

from pgjobs_celery import adelay, bulk, enqueue_many, jobs, queues, using
from pgjobs_celery.config import Options
from pgjobs_celery.control.app import database_of
from pgjobs_celery.db.database import get_database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import CannotJoin, NotCommitted
from pgjobs_celery.publishing.laning import known_rules

from ..broker.test_transport_processes import in_child
from ..conftest import Connection, close_app
from ..support.rows import states
from .conftest import new_app

db = pytest.importorskip("django.db")
transaction = db.transaction


class Undo(Exception):
    """Ends a block, and with it its transaction."""


@contextmanager
def undone(**options: Any) -> Iterator[None]:
    """A block whose transaction, or savepoint, is rolled back."""
    with suppress(Undo), transaction.atomic(**options):
        yield
        raise Undo


def name_of_cause(error: BaseException) -> str:
    """The driver's own error, which Django's is raised from."""
    return type(error.__cause__).__name__


def test_what_is_published_in_a_transaction_has_its_lane(app: Celery, connection: Connection):
    queues(app)["mail"].fair("x")
    known_rules(database_of(app)).expire()
    add = app.tasks["add"]
    with transaction.atomic():
        add.apply_async((7, 1), queue="mail")
        add.apply_async(kwargs={"x": 8, "y": 1}, queue="mail")
        with bulk():
            add.apply_async((9, 1), queue="mail")
    with undone():
        add.apply_async((10, 1), queue="mail")
    rows = connection.execute("SELECT lane, priority FROM pgjobs.jobs ORDER BY seq").fetchall()
    # The program's own app is not the current one here, so that parameters have no names.
    assert [(row["lane"], row["priority"]) for row in rows] == [
        ("share=7", 256), ("share=8", 256), ("share=9", 256),
    ]  # fmt: skip


def count(connection: Connection) -> int:
    """How many jobs others see."""
    return len(states(connection))


def wait_for_lock(connection: Connection) -> None:
    """Until a session of the database waits for another one."""
    while not connection.execute(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'"
    ).rowcount:
        pass


# Commit and rollback


def test_a_job_is_there_with_the_commit_and_no_sooner(app: Celery, connection: Connection):
    with transaction.atomic():
        result = app.tasks["add"].delay(1, 1)
        assert count(connection) == 0
        assert result.state == "PENDING"
        assert jobs(app).get(result).state == "available"
    assert states(connection) == {result.id: "available"}


def test_a_result_of_the_open_transaction_is_not_waited_for(app: Celery, connection: Connection):
    add, total = app.tasks["add"], app.tasks["total"]
    with transaction.atomic():
        single = add.delay(1, 1)
        waits = [
            single.get,
            app.AsyncResult(single.id).get,
            lambda: add.delay(1, 1).get(timeout=3600),
            lambda: group(add.s(1, 1), add.s(2, 2))().get(),
            lambda: list(group(add.s(1, 1))().iter_native()),
            lambda: (add.s(1, 1) | add.s(1)).delay().get(),
            lambda: chord([add.s(1, 1)])(total.s()).get(),
            lambda: app.tasks["once"].delay(user_id=7).get(),
        ]
        for wait in waits:
            with pytest.raises(NotCommitted, match=r"with using\(None\)") as raised:
                wait()
            assert isinstance(raised.value, TimeoutError)  # which software expects
        with transaction.atomic(), pytest.raises(NotCommitted):
            single.get()
        # The transaction goes on.
        assert add.delay(1, 1).id
    assert single.id in states(connection)
    with pytest.raises(TimeoutError) as timed_out:
        single.get(timeout=0)
    assert not isinstance(timed_out.value, NotCommitted)


def test_a_result_of_anything_else_is_waited_for_in_a_transaction(
    app: Celery, connection: Connection
):
    add = app.tasks["add"]
    before = add.delay(1, 1)
    with transaction.atomic():
        add.delay(2, 2)
        with using(None):
            beside = add.delay(3, 3)
        with undone():
            undone_job = add.delay(4, 4)
        for result in (before, beside):
            app.backend.mark_as_done(result.id, 5)
            assert result.get(timeout=10) == 5
        for result in (undone_job, app.AsyncResult("nobody's")):
            with pytest.raises(TimeoutError) as raised:
                result.get(timeout=0.1)
            assert not isinstance(raised.value, NotCommitted)
        with suppress(db.Error), transaction.atomic():
            db.connection.cursor().execute("broken")
        with undone():
            with suppress(db.Error):
                db.connection.cursor().execute("broken")
            assert before.get(timeout=10) == 5  # in a transaction that has failed
    assert add.delay(6, 6).id


def test_a_schema_without_tables_does_not_break_the_transaction_of_who_waits(
    app: Celery, connection: Connection
):
    """A second app of the process, say, whose tables are not made yet."""
    alias = app.connection_for_write().transport.database.conninfo
    get_database(alias, Options(schema="missing"))
    before = app.tasks["add"].delay(1, 1)
    with transaction.atomic():
        with pytest.raises(TimeoutError):
            before.get(timeout=0.1)
        later = app.tasks["add"].delay(2, 2)
    assert later.id in states(connection)


def test_outside_of_a_transaction_it_is_there_at_once(app: Celery, connection: Connection):
    result = app.tasks["add"].delay(1, 1)
    assert states(connection) == {result.id: "available"}
    assert not db.connection.in_atomic_block


def test_a_rollback_takes_all_that_was_published(app: Celery, connection: Connection):
    add, total = app.tasks["add"], app.tasks["total"]
    with undone():
        add.delay(1, 1)
        add.apply_async((1, 1), countdown=60)
        app.send_task("elsewhere", (1,))
        group(add.s(n, n) for n in range(3)).delay()
        chord([add.s(1, 1), add.s(2, 2)])(total.s())
        (add.s(1, 1) | add.s(1)).delay()
        app.tasks["once"].delay(user_id=7)
        assert jobs(app).count() == 10
    assert count(connection) == 0
    assert connection.execute("SELECT FROM pgjobs.groups").rowcount == 0


def test_a_savepoint_takes_what_was_published_in_it(app: Celery, connection: Connection):
    add = app.tasks["add"]
    with transaction.atomic():
        first = add.delay(1, 1)
        with undone():
            add.delay(2, 2)
            with transaction.atomic(savepoint=False):
                add.delay(3, 3)
        with transaction.atomic():
            last = add.delay(4, 4)
        assert count(connection) == 0
    assert set(states(connection)) == {first.id, last.id}


def test_a_durable_block_and_a_rollback_by_hand(app: Celery, connection: Connection):
    add = app.tasks["add"]
    with transaction.atomic(durable=True):
        kept = add.delay(1, 1)
    with transaction.atomic(durable=True):
        add.delay(2, 2)
        transaction.set_rollback(True)
    assert set(states(connection)) == {kept.id}


def test_a_block_that_is_broken_takes_no_job(app: Celery, connection: Connection):
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            app.tasks["add"].delay(1, 1)
    assert count(connection) == 0


def test_without_autocommit_the_job_waits_for_the_commit(url: str, connection: Connection):
    app = new_app("pgjobs+django://manual")
    add = app.tasks["add"]
    try:
        add.delay(1, 1)  # Django is not even connected
        assert count(connection) == 0
        transaction.rollback(using="manual")
        kept = add.delay(2, 2)
        transaction.commit(using="manual")
        add.delay(3, 3)
        transaction.rollback(using="manual")
        assert set(states(connection)) == {kept.id}
    finally:
        close_app(app)


def test_an_atomic_block_on_another_alias_is_none_of_ours(app: Celery, connection: Connection):
    with undone(using="strict"):
        app.tasks["add"].delay(1, 1)
    assert count(connection) == 1


# using()


def test_using_none_publishes_at_once(app: Celery, connection: Connection):
    with undone(), using(None):
        app.tasks["add"].delay(1, 1)
    assert count(connection) == 1


@pytest.mark.parametrize("how", ["alias", "connection", "proxy"])
def test_using_takes_an_alias_and_djangos_connections(url: str, connection: Connection, how: str):
    given = {"alias": "default", "connection": db.connections["default"], "proxy": db.connection}
    app = new_app(url)  # a URL that knows nothing of Django
    add = app.tasks["add"]
    try:
        with undone():
            beside = add.delay(1, 1)
            with using(given[how]):
                add.delay(2, 2)
                assert jobs(app).count() == 2
        with transaction.atomic(), using(given[how]):
            kept = add.delay(3, 3)
            assert set(states(connection)) == {beside.id}
        assert set(states(connection)) == {beside.id, kept.id}
    finally:
        close_app(app)


def test_using_an_alias_that_is_not_there_says_which_are(app: Celery):
    with pytest.raises(ValueError, match="no database 'shop' in Django's settings; DATABASES has"):
        using("shop")


# bulk()


def test_a_batch_is_written_where_it_began(app: Celery, connection: Connection):
    add = app.tasks["add"]
    with bulk() as batch:
        outside = add.delay(0, 0)
        with undone():
            add.delay(1, 1)
            assert len(batch) == 1
    with undone(), bulk() as batch:
        inside = [add.delay(n, n) for n in range(3)]
        assert len(batch) == 3
        with transaction.atomic():
            # Ahead of the savepoint, which Django does not tell from one made by hand.
            assert len(batch) == 0
            add.delay(4, 4)
            assert len(batch) == 0
        assert jobs(app).filter(id=inside).count() == 3
    with transaction.atomic(), bulk():
        kept = [add.delay(n, n).id for n in range(3)]
    assert set(states(connection)) == {outside.id, *kept}


def test_without_autocommit_each_job_of_a_batch_goes_with_its_own_transaction(
    url: str, connection: Connection
):
    app = new_app("pgjobs+django://manual")
    add = app.tasks["add"]
    try:
        with bulk():
            for n in (1, 2, 3):
                add.delay(n, 0)
                (transaction.rollback if n == 2 else transaction.commit)(using="manual")
            add.delay(4, 0)
            db.connections["manual"].close()
        assert sorted(job.args[0] for job in jobs(app)) == [1, 3]
        assert "commit" not in vars(db.connections["manual"])
        assert db.connections["manual"].execute_wrappers == []
    finally:
        close_app(app)


def test_savepoints_by_hand_take_what_was_collected_in_them(app: Celery, connection: Connection):
    add = app.tasks["add"]
    with transaction.atomic(), bulk():
        add.delay(1, 0)
        sid = transaction.savepoint()
        add.delay(2, 0)
        transaction.savepoint_rollback(sid)
        with db.connection.cursor() as cursor:
            cursor.execute("SAVEPOINT mine")
            add.delay(3, 0)
            cursor.execute("RELEASE mine")
        kept = add.delay(4, 0)
        with undone():
            add.delay(5, 0)
    assert kept.id in states(connection)
    assert sorted(job.args[0] for job in jobs(app)) == [1, 3, 4]


def test_a_batch_that_outlives_its_transaction_is_an_error(app: Celery, connection: Connection):
    def publish() -> None:
        collecting = bulk()
        with transaction.atomic():
            collecting.__enter__()
            app.tasks["add"].delay(1, 0)
        collecting.__exit__(None, None, None)

    with pytest.raises(CannotJoin):
        publish()
    assert count(connection) == 0


def test_the_first_batch_of_a_process_is_one(url: str, connection: Connection):
    """The database has not been asked for yet when it begins."""
    app = new_app("pgjobs+django://strict")
    try:
        with transaction.atomic(using="strict"), bulk() as batch:
            app.tasks["add"].delay(1, 1)
            assert len(batch) == 1
        assert count(connection) == 1
    finally:
        close_app(app)


def test_a_task_for_each_row_of_a_query_is_part_of_its_transaction(
    app: Celery, connection: Connection
):
    """Read by a cursor on the server, over the connection that the jobs are written over."""
    from django.contrib.auth.models import Permission

    keys = Permission.objects.values_list("pk", "pk")
    with undone():
        assert enqueue_many(app.tasks["add"], keys.iterator(chunk_size=3), size=4) == keys.count()
        assert jobs(app).count() == keys.count() > 10
    assert count(connection) == 0


# on_commit


@pytest.mark.parametrize("task", ["add", "once"])
def test_delay_on_commit_publishes_after_the_commit(app: Celery, connection: Connection, task: str):
    """Celery's own, and that of PgTask."""
    publish = app.tasks[task].delay_on_commit
    assert isinstance(app.tasks["add"], DjangoTask)
    args = (1, 1)[: 1 if task == "once" else 2]
    with undone():
        publish(*args)
    with transaction.atomic():
        publish(*args)
        assert jobs(app).count() == 0
    assert count(connection) == 1


# Views


def test_a_request_that_fails_leaves_no_job(app: Celery, connection: Connection):
    from django.test import Client

    client = Client(raise_request_exception=False)
    assert client.get("/publish?fail=1").status_code == 500
    assert count(connection) == 0
    assert client.get("/publish").content.decode() in states(connection)


def test_an_async_view_takes_part_where_its_transaction_is(app: Celery, connection: Connection):
    from django.test import AsyncClient

    answer = asyncio.run(AsyncClient().get("/publish_async"))
    assert set(states(connection)) == {answer.content.decode()}


# Others


def test_another_thread_takes_no_part(app: Celery, connection: Connection):
    add = app.tasks["add"]
    with undone():
        add.delay(1, 1)
        other = threading.Thread(target=add.delay, args=(2, 2))
        other.start()
        other.join()
        assert count(connection) == 1
    assert count(connection) == 1


def test_what_an_event_loop_publishes_takes_no_part(app: Celery, connection: Connection):
    with undone():
        asyncio.run(adelay(app.tasks["add"], 1, 1))
    assert count(connection) == 1


def test_an_alias_cannot_be_lent_to_an_event_loop(app: Celery, connection: Connection):
    """Django says so, and nothing is published: its connections stay in their thread."""
    from django.core.exceptions import SynchronousOnlyOperation

    async def publish(*, is_awaited: bool) -> None:
        with using("default"):
            add = app.tasks["add"]
            await adelay(add, 1, 1) if is_awaited else add.delay(1, 1)

    with pytest.raises(db.DatabaseError, match="can only be used in that same thread"):
        asyncio.run(publish(is_awaited=True))
    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(publish(is_awaited=False))
    assert count(connection) == 0


def test_a_child_that_is_forked_in_a_block_takes_no_part_in_it(app: Celery, connection: Connection):
    """It has the connection of its parent, over which it must not say a word."""
    add = app.tasks["add"]
    with undone():
        add.delay(1, 1)
        assert in_child(lambda: add.delay(2, 2) and None) == 0
        assert count(connection) == 1
        assert jobs(app).count() == 2  # and its own is as it was
    assert [job.args for job in jobs(app)] == [[2, 2]]


def test_without_autocommit_a_worker_goes_on_with_a_chain(url: str):
    """Which it does beside the transaction that the task has left open."""
    app = new_app("pgjobs+django://manual")
    look, add = app.tasks["look"], app.tasks["add"]

    def leave_logging_alone(**_: Any) -> None:
        """It is pytest's."""

    signals.setup_logging.connect(leave_logging_alone)
    try:
        with start_worker(app, pool="solo", perform_ping_check=False):
            result = (look.s("manual") | add.s(1)).delay()
            transaction.commit(using="manual")
            assert result.get(timeout=10) == 8
    finally:
        signals.setup_logging.disconnect(leave_logging_alone)
        close_app(app)


# Failures


def test_a_serialization_failure_is_djangos_error_and_can_be_tried_again(
    url: str, connection: Connection
):
    app = new_app("pgjobs+django://strict")
    add, task_id = app.tasks["add"], str(uuid4())

    def publish(*, is_disturbed: bool) -> None:
        with transaction.atomic(using="strict"):
            db.connections["strict"].cursor().execute("SELECT FROM pgjobs.jobs")
            if is_disturbed:
                with using(None):  # somebody else, just now
                    add.apply_async((1, 1), task_id=task_id)
            add.apply_async((1, 1), task_id=task_id)

    try:
        with pytest.raises(db.OperationalError) as raised:
            publish(is_disturbed=True)
        assert name_of_cause(raised.value) == "SerializationFailure"
        publish(is_disturbed=False)
    finally:
        close_app(app)
    assert set(states(connection)) == {task_id}


@pytest.mark.parametrize("collect", [nullcontext, bulk])
def test_a_deadlock_is_djangos_error_and_can_be_tried_again(
    app: Celery, connection: Connection, url: str, collect: Any
):
    add, task_id = app.tasks["add"], str(uuid4())
    add.apply_async((1, 1), task_id=task_id)
    connection.execute("UPDATE pgjobs.jobs SET state = 'completed', finished_at = now()")
    is_there = threading.Event()

    def stand_in_the_way() -> None:
        with psycopg.connect(parse_url(url)) as other:
            other.execute("SELECT FROM pgjobs.jobs FOR UPDATE")
            is_there.set()
            other.execute("SELECT pg_advisory_xact_lock(7)")

    def publish() -> None:
        with transaction.atomic():
            cursor = db.connection.cursor()
            cursor.execute("SET LOCAL deadlock_timeout = '10ms'")
            cursor.execute("SELECT pg_advisory_xact_lock(7)")
            if not is_there.is_set():
                other.start()
                is_there.wait()
                wait_for_lock(connection)
            with collect():
                add.apply_async((1, 1), task_id=task_id)

    other = threading.Thread(target=stand_in_the_way)
    with pytest.raises(db.OperationalError) as raised:
        publish()
    assert name_of_cause(raised.value) == "DeadlockDetected"
    other.join()
    publish()
    assert states(connection) == {task_id: "available"}


def test_a_connection_that_is_cut_before_the_commit_leaves_no_job(
    app: Celery, connection: Connection
):
    add = app.tasks["add"]

    def publish() -> None:
        with transaction.atomic():
            add.delay(1, 1)
            pid = db.connection.connection.info.backend_pid
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    with pytest.raises(db.Error):
        publish()
    assert count(connection) == 0
    db.connection.close()
    with transaction.atomic():
        add.delay(3, 3)
    assert count(connection) == 1


# Values


def test_times_are_aware_whatever_use_tz_says(app: Celery):
    from django.test.utils import override_settings

    result = app.tasks["add"].delay(1, 1)
    expected = jobs(app).get(result).inserted_at
    for use_tz in (True, False):
        with override_settings(USE_TZ=use_tz, TIME_ZONE="America/Chicago"), transaction.atomic():
            assert jobs(app).get(result).inserted_at == expected
        db.connection.close()


def test_all_that_a_job_has_goes_through_djangos_cursor(app: Celery, connection: Connection):
    """Bytes, arrays, JSON, percent signs, an expiry, a group."""
    with transaction.atomic():
        result = app.tasks["once"].apply_async(
            (7,), tags=["100 %"], meta={"a": "%s"}, expires=600, countdown=60, priority=3
        )
        with bulk():
            group(app.tasks["add"].s(f"{n} % {{}} \\ ' é", n) for n in range(2)).delay()
    job = jobs(app).get(result)
    assert (job.tags, job.meta, job.args, job.priority) == (("mail", "100 %"), {"a": "%s"}, [7], 3)
    assert job.state == "scheduled"
    assert [job.args[0] for job in jobs(app).filter(task="add")] == [
        f"{n} % {{}} \\ ' é" for n in range(2)
    ]
    with transaction.atomic():
        assert app.tasks["once"].delay(7).conflict
        assert jobs(app).filter(task="add").cancel("not needed")
        assert len(jobs(app).filter(id=result).reschedule(countdown=0)) == 1
    assert sorted(states(connection).values()) == ["available", "cancelled", "cancelled"]
