"""What is published in ``using()`` is part of the caller's transaction, whatever its driver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from celery import Celery, chain, chord, group
from kombu import Exchange, Queue

from pgjobs_celery import Unique, bulk, jobs, using
from pgjobs_celery.db import notify
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import CannotJoin
from pgjobs_celery.job.states import State

from ..conftest import Connection, close_app
from ..support.callers import DRIVERS, KINDS, open_kind, with_tasks
from ..support.rows import states


class RolledBack(Exception):
    """Ends a block, as an error of the caller's would."""


@pytest.fixture(params=KINDS)
def any_kind(request: pytest.FixtureRequest, url: str) -> Any:
    """The test, once for each kind of connection."""
    return lambda: open_kind(request.param, url)


@pytest.fixture(params=DRIVERS)
def kind(request: pytest.FixtureRequest, url: str) -> Any:
    """The test, once for each driver."""
    return lambda: open_kind(request.param, url)


Open = Callable[[], Any]


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return with_tasks(make_app(), tags=["a", 'b"\\'], meta={"user": 7})


def run(work: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, 20)

    return asyncio.run(limited())


def test_a_job_is_there_exactly_if_the_transaction_commits(
    any_kind: Open, app: Celery, connection: Connection
):
    async def work() -> None:
        add = app.tasks["add"]
        async with any_kind() as caller:
            async with caller.using():
                lost = await caller.publish(add, 1, 1)
                assert states(connection) == {}
                assert (lost.state, lost.ready()) == ("PENDING", False)
            await caller.rollback()
            assert states(connection) == {}
            async with caller.using():
                kept = await caller.publish(add, 1, 2)
                assert await caller.execute("SELECT task_id FROM pgjobs.jobs") == [(kept.id,)]
            assert states(connection) == {}
            await caller.commit()
            assert states(connection) == {kept.id: "available"}

    run(work())


def test_what_a_savepoint_takes_back_is_not_there(
    any_kind: Open, app: Celery, connection: Connection
):
    async def work() -> None:
        add = app.tasks["add"]
        async with any_kind() as caller:
            async with caller.using():
                before = await caller.publish(add, 1, 1)
                with suppress(RolledBack):
                    async with caller.savepoint():
                        await caller.publish(add, 1, 2)
                        raise RolledBack
                async with caller.savepoint():
                    within = await caller.publish(add, 1, 3)
                after = await caller.publish(add, 1, 4)
            await caller.commit()
            assert [*states(connection)] == [before.id, within.id, after.id]

    run(work())


def test_a_server_that_takes_null_for_a_text_is_named_as_the_cause(
    any_kind: Open, app: Celery, connection: Connection
):
    """Where the driver writes arrays as texts; others do not mind ``array_nulls``."""
    add = app.tasks["add"]

    async def publish(caller: Any) -> None:
        async with caller.using():
            await caller.execute("SET LOCAL array_nulls = off")
            with nullcontext() if caller.is_async else bulk():
                add.delay(1, 1)
                add.delay(1, 2)

    async def work() -> None:
        async with any_kind() as caller:
            refused = None
            try:
                await publish(caller)
            except CannotJoin as error:
                refused = str(error)
            if refused is not None:
                assert "SET array_nulls = on" in refused
                return
            await caller.commit()
            assert len(states(connection)) == 2
            found = connection.execute("SELECT DISTINCT parent_id, unique_key FROM pgjobs.jobs")
            assert found.fetchall() == [{"parent_id": None, "unique_key": None}]

    run(work())


def test_an_exception_ends_the_block_and_nothing_else(
    kind: Open, app: Celery, connection: Connection
):
    async def work() -> None:
        async with kind() as caller:
            with suppress(RolledBack):
                async with caller.using():
                    kept = await caller.publish(app.tasks["add"], 1, 1)
                    raise RolledBack
            outside = app.tasks["add"].delay(1, 2)
            assert states(connection) == {outside.id: "available"}
            await caller.commit()
            assert states(connection).keys() == {outside.id, kept.id}

    run(work())


def test_canvas_and_tasks_by_name_take_part(kind: Open, app: Celery, connection: Connection):
    async def work() -> None:
        add = app.tasks["add"]
        async with kind() as caller:
            async with caller.using() as block:
                await caller.publish(chain(add.s(1, 1), add.s(2)))
                await caller.publish(group(add.s(1, 1), add.s(2, 2)))
                await caller.publish(chord([add.s(1, 1), add.s(2, 2)], add.s(3)))
                await caller.run(block, app.send_task, "unknown", (1,))
            assert states(connection) == {}
            assert count(connection, "groups") == 0
            await caller.commit()
            assert len(states(connection)) == 6
            assert count(connection, "groups") == 1

    run(work())


def test_a_task_for_several_queues_takes_part(kind: Open, app: Celery, connection: Connection):
    app.conf.task_queues = [
        Queue(name, Exchange("both", type="fanout"), durable=True) for name in ("one", "two")
    ]
    with app.connection_for_write() as broker:
        for queue in app.conf.task_queues:
            queue(broker.default_channel).declare()

    async def work() -> None:
        async with kind() as caller:
            async with caller.using() as block:
                await caller.run(
                    block,
                    lambda: app.tasks["add"].apply_async((1, 1), queue="one"),
                )
            assert count(connection, "messages") == 0
            await caller.commit()
            assert count(connection, "messages") == 2

    run(work())


def test_a_unique_task_is_unique_in_its_transaction_too(
    kind: Open, app: Celery, connection: Connection
):
    async def work() -> None:
        once = app.tasks["once"]
        rule = Unique(
            period=None, states="waiting", replace=["eta", "args", "tags"], fields=["task"]
        )
        async with kind() as caller:
            async with caller.using() as block:

                def publish(x: int) -> Any:
                    return once.apply_async((x,), unique=rule, countdown=60)

                first = await caller.run(block, publish, 1)
                again = await caller.run(block, publish, 2)
                promised = await caller.run(
                    block, lambda: once.apply_async((3,), unique=rule, task_id="mine", eta=None)
                )
                assert (first.conflict, again.conflict, again.id) == (False, True, first.id)
                assert promised.conflict
            await caller.commit()
            assert states(connection) == {first.id: "available", "mine": "cancelled"}

    run(work())


def test_a_job_is_seen_changed_and_revoked_in_its_transaction(
    kind: Open, app: Celery, connection: Connection
):
    async def work() -> None:
        once = app.tasks["once"]
        async with kind() as caller:
            async with caller.using() as block:
                eta = datetime.now(timezone.utc) + timedelta(hours=1)
                due = await caller.run(
                    block, lambda: once.apply_async((1,), eta=eta, expires=eta, meta={"a": [None]})
                )
                now, other, last = [await caller.publish(once, n) for n in (2, 3, 4)]
                all_jobs = jobs(app)
                seen = await caller.run(block, all_jobs.get, due.id)
                assert (seen.state, seen.meta, seen.args) == (
                    State.SCHEDULED,
                    {"user": 7, "a": [None]},
                    [1],
                )
                assert seen.tags == ("a", 'b"\\')
                assert (await caller.run(block, all_jobs.count)) == 4
                some = all_jobs.filter(tags=["a"], id=[now.id])
                assert await caller.run(block, some.cancel, "why") == [now.id]
                assert await caller.run(block, some.retry) == [now.id]
                assert await caller.run(block, lambda: some.reschedule(countdown=60)) == [now.id]
                assert await caller.run(block, some.set_priority, 3) == [now.id]
                assert await caller.run(block, some.move, "elsewhere") == [now.id]
                assert await caller.run(block, all_jobs.filter(id=last.id).delete) == [last.id]
                await caller.run(block, other.revoke)
                await caller.run(block, app.control.revoke, "not-yet")
            assert states(connection) == {}
            await caller.commit()
            assert states(connection) == {
                due.id: "scheduled",
                now.id: "scheduled",
                other.id: "cancelled",
                "not-yet": "cancelled",
            }

    run(work())


def test_bulk_writes_into_the_transaction(kind: Open, app: Celery, connection: Connection):
    async def work() -> None:
        add, once = app.tasks["add"], app.tasks["once"]
        eta = datetime.now(timezone.utc) + timedelta(hours=1)
        async with kind() as caller:
            async with caller.using():
                with bulk():
                    results = [add.delay(n, n) for n in range(3)]
                    results.append(once.apply_async((1,), eta=eta, unique=True))
            assert states(connection) == {}
            await caller.commit()
            assert [*states(connection)] == [result.id for result in results]

    run(work())


def test_nothing_of_the_transaction_is_set(kind: Open, app: Celery):
    async def work() -> None:
        settings = (
            "SELECT name, setting FROM pg_settings WHERE name ~ 'enable_|_timeout|plan_' ORDER BY 1"
        )
        async with kind() as caller:
            before = await caller.execute(settings)
            async with caller.using() as block:
                await caller.publish(app.tasks["add"], 1, 1)
                await caller.run(block, jobs(app).cancel)
                await caller.run(block, app.control.revoke, "not-yet")
            assert await caller.execute(settings) == before
            await caller.rollback()

    run(work())


def test_nested_blocks_each_have_their_own_transaction(
    kind: Open, app: Celery, connection: Connection
):
    async def work() -> None:
        add = app.tasks["add"]
        async with kind() as outer, kind() as inner:
            async with outer.using():
                first = await outer.publish(add, 1, 1)
                async with inner.using():
                    second = await inner.publish(add, 1, 2)
                    with using(None):
                        alone = await outer.publish(add, 1, 3)
                third = await outer.publish(add, 1, 4)
            assert states(connection).keys() == {alone.id}
            await inner.commit()
            assert states(connection).keys() == {alone.id, second.id}
            await outer.commit()
            assert states(connection).keys() == {alone.id, second.id, first.id, third.id}

    run(work())


def test_a_failed_transaction_is_the_drivers_error(kind: Open, app: Celery):
    async def work() -> None:
        async with kind() as caller:
            with pytest.raises(Exception, match="division by zero"):
                await caller.execute("SELECT 1 / 0")
            with pytest.raises(Exception, match="current transaction is aborted") as failed:
                async with caller.using():
                    await caller.publish(app.tasks["add"], 1, 1)
            assert type(failed.value).__module__.startswith(("psycopg", "sqlalchemy"))
            await caller.rollback()
            async with caller.using():
                await caller.publish(app.tasks["add"], 1, 1)
            await caller.commit()

    run(work())


def test_the_commit_tells_who_waits(kind: Open, app: Celery, database: Database):
    listener = database.listen_for_work()

    async def work() -> None:
        async with kind() as caller:
            async with caller.using() as block:
                await caller.run(
                    block, lambda: app.tasks["add"].apply_async((1, 1), countdown=60, queue="q")
                )
            assert listener.wait(0) == set()
            await caller.commit()

    run(work())
    # One commit, and so they come together.
    assert listener.wait(5) == {f"{notify.JOB}q", notify.DUE}
    listener.close()


def count(connection: Connection, table: str) -> int:
    (row,) = connection.execute(f"SELECT count(*) AS n FROM pgjobs.{table}").fetchall()  # type: ignore[arg-type]
    return int(row["n"])


def test_a_task_of_another_database_is_refused(
    kind: Open, app: Celery, connection: Connection, make_migrated: Callable[[], str]
):
    url = make_migrated()
    other = Celery("other", broker=url, backend=url, set_as_current=False)

    async def work() -> None:
        async with kind() as caller:
            async with caller.using():
                here = await caller.publish(app.tasks["add"], 1, 1)
                with pytest.raises(CannotJoin, match=r"outside of the block.*using\(None\)"):
                    await caller.publish(other.signature("add"), 1, 2)
                with using(None):
                    there = await caller.publish(other.signature("add"), 1, 3)
            await caller.commit()
            assert [job.task_id for job in jobs(other)] == [there.id]
            assert states(connection).keys() == {here.id}

    run(work())
    close_app(other)


@pytest.mark.parametrize("is_kept", [True, False], ids=["committed", "rolled back"])
def test_workers_are_told_of_a_revoke_if_it_is_true(
    app: Celery, url: str, connection: Connection, is_kept: bool
):
    mailbox = Queue("w.celery.pidbox", Exchange("celery.pidbox", type="fanout"))
    with app.connection_for_write() as broker:
        mailbox(broker.default_channel).declare()
    job = app.tasks["add"].apply_async((1, 1), countdown=60)
    with psycopg.connect(parse_url(url)) as caller:
        with using(caller):
            job.revoke()
        assert count(connection, "messages") == 0
        (caller.commit if is_kept else caller.rollback)()
    assert count(connection, "messages") == is_kept
    assert states(connection) == {job.id: "cancelled" if is_kept else "scheduled"}
