"""What is published over an asyncio connection, where Celery's code must not block the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from celery import Celery, chord, group

from pgjobs_celery import Unique, aapply_async, adelay, bulk, jobs, using
from pgjobs_celery.errors import CannotJoin
from pgjobs_celery.scopes.threads import PUBLISHERS

from ..conftest import Connection
from ..support.callers import KINDS, aio, open_kind, orm, sqlalchemy, sqlalchemy_url, with_tasks
from ..support.rows import states
from .test_using import Open, RolledBack, run

ASYNC = [name for name in KINDS if "async" in name and not name.endswith("psycopg-connection")]


@pytest.fixture(params=ASYNC)
def kind(request: pytest.FixtureRequest, url: str) -> Any:
    """The test, once for each kind of asyncio connection."""
    return lambda: open_kind(request.param, url)


@pytest.fixture
def one(url: str) -> Open:
    """A connection of one kind."""
    return lambda: open_kind("sqlalchemy-async-asyncpg-session", url)


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return with_tasks(make_app(), unique=Unique(period=None))


def test_delay_is_written_at_the_end_of_the_block(kind: Open, app: Celery, connection: Connection):
    add, once = app.tasks["add"], app.tasks["once"]

    async def work() -> None:
        async with kind() as caller:
            async with using(caller.connection):
                first = add.delay(1, 1)
                chord([add.s(1, 1), add.s(2, 2)], add.s(3)).delay()
                unique, again = once.delay(1), once.delay(1)
                assert await caller.execute("SELECT * FROM pgjobs.jobs") == []
            written = await caller.execute("SELECT task_id FROM pgjobs.jobs ORDER BY id")
            assert (written[0], written[3]) == ((first.id,), (unique.id,))
            assert (unique.conflict, again.conflict) == (False, True)
            assert states(connection) == {}
            await caller.commit()
            assert [*states(connection).values()].count("available") == 4

    run(work())


def test_an_awaited_publish_comes_after_what_was_collected(
    kind: Open, app: Celery, connection: Connection
):
    add = app.tasks["add"]

    async def work() -> None:
        async with kind() as caller:
            async with using(caller.connection):
                first = add.delay(1, 1)
                second = await adelay(add, 1, 2)
                assert len(await caller.execute("SELECT * FROM pgjobs.jobs")) == 2
                with bulk():
                    third = add.delay(1, 3)
                    fourth = await adelay(add, 1, 4)
                fifth = add.delay(1, 5)
            await caller.commit()
            assert [*states(connection)] == [
                result.id for result in (first, second, third, fourth, fifth)
            ]

    run(work())


def test_a_savepoint_takes_back_what_is_published_in_it_and_no_more(
    kind: Open, app: Celery, connection: Connection
):
    add = app.tasks["add"]

    async def work() -> None:
        async with kind() as caller:
            await caller.execute("SELECT 1")
            async with using(caller.connection):
                kept = add.delay(1, 1)
                with suppress(RolledBack):
                    async with caller.savepoint():
                        await adelay(add, 1, 2)
                        with pytest.raises(CannotJoin, match="within a savepoint"):
                            add.delay(1, 3)
                        async with using(caller.connection):
                            add.delay(1, 4)
                        raise RolledBack
            await caller.commit()
            assert states(connection).keys() == {kept.id}

    run(work())


def test_what_was_collected_before_a_commit_is_not_lost_in_silence(
    kind: Open, app: Celery, connection: Connection
):
    add = app.tasks["add"]

    async def work() -> None:
        async with kind() as caller:
            await caller.execute("SELECT 1")
            block = using(caller.connection)
            await block.__aenter__()
            add.delay(1, 1)
            await caller.commit()
            with pytest.raises(CannotJoin, match="Commit after the block"):
                await block.__aexit__(None, None, None)
            # What was awaited was in it.
            async with using(caller.connection):
                kept = await adelay(add, 1, 2)
                await caller.commit()
            assert states(connection).keys() == {kept.id}

    run(work())


def test_an_exception_leaves_what_was_collected_out(
    kind: Open, app: Celery, connection: Connection
):
    async def work() -> None:
        async with kind() as caller:
            with suppress(RolledBack):
                async with using(caller.connection):
                    kept = await adelay(app.tasks["add"], 1, 1)
                    app.tasks["add"].delay(1, 2)
                    raise RolledBack
            await caller.commit()
            assert states(connection).keys() == {kept.id}

    run(work())


def test_a_plain_block_takes_what_is_awaited_only(one: Open, app: Celery, connection: Connection):
    add = app.tasks["add"]

    async def work() -> None:
        async with one() as caller:
            with using(caller.connection):
                kept = await adelay(add, 1, 1)
                with pytest.raises(CannotJoin, match="async with using"):
                    add.delay(1, 2)
            await caller.commit()
            assert states(connection).keys() == {kept.id}

    run(work())


def test_gather_takes_part_and_other_tasks_and_threads_do_not(
    kind: Open, app: Celery, connection: Connection
):
    add, once = app.tasks["add"], app.tasks["once"]

    async def in_a_task() -> Any:
        return await adelay(add, 2, 0)

    async def work() -> None:
        async with kind() as caller:
            async with using(caller.connection):
                parts = await asyncio.gather(
                    *(adelay(add, 1, n) for n in range(5)),
                    asyncio.create_task(adelay(add, 1, 5)),
                    asyncio.wait_for(once.adelay(1), 10),
                    aapply_async(group(add.s(1, 6), add.s(1, 7))),
                )
                others = [
                    await asyncio.create_task(in_a_task()),
                    await asyncio.to_thread(add.delay, 2, 1),
                ]
            assert states(connection).keys() == {other.id for other in others}
            await caller.rollback()
            assert states(connection).keys() == {other.id for other in others}
            assert len(parts) == 8

    run(work())


def test_tasks_of_the_block_do_not_publish_in_it_once_it_has_ended(
    one: Open, app: Celery, connection: Connection
):
    add = app.tasks["add"]
    ended = asyncio.Event()

    async def in_a_task() -> Any:
        await ended.wait()
        return await adelay(add, 1, 1)

    async def work() -> None:
        async with one() as caller:
            async with using(caller.connection):
                task = asyncio.create_task(in_a_task())
                late = adelay(add, 1, 2)
            ended.set()
            outside = await task
            with pytest.raises(CannotJoin, match="has ended"):
                await late
            await caller.commit()
            assert states(connection).keys() == {outside.id}

    run(work())


def test_who_is_cancelled_leaves_no_statement_behind(
    kind: Open, app: Celery, connection: Connection
):
    """A unique job of another transaction is in the way: the statement waits."""
    once, add = app.tasks["once"], app.tasks["add"]

    async def work() -> None:
        async with kind() as other, kind() as caller:
            async with other.using():
                first = await once.adelay(1)
            async with using(caller.connection):
                started = time.monotonic()
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(aapply_async(group(once.s(1), add.s(1, 1))), 0.1)
                assert time.monotonic() - started < 5
            assert not _publishing()
            await other.commit()
            with suppress(Exception):  # the cancelled statement may have ended the transaction
                await caller.commit()
            await caller.rollback()
            assert states(connection).keys() == {first.id}
            async with using(caller.connection):
                later = await adelay(add, 1, 2)
            await caller.commit()
            assert states(connection).keys() == {first.id, later.id}

    run(work())


def _publishing() -> list[Any]:
    """Coroutines that run statements for a thread."""
    return [task for task in asyncio.all_tasks() if "have_done" in repr(task.get_coro())]


def test_publishing_goes_on_where_others_wait_for_each_other(
    one: Open, app: Celery, connection: Connection
):
    """More of them wait for the one that is to publish than there are threads, and producers."""
    count = max(app.pool.limit, PUBLISHERS) + 1
    once, add = app.tasks["once"], app.tasks["add"]

    async def wait(caller: Any) -> Any:
        async with using(caller.connection):
            result = await once.adelay(1)
        await caller.rollback()
        return result

    async def work() -> None:
        async with AsyncExitStack() as stack, one() as first:
            others = [await stack.enter_async_context(one()) for _ in range(count)]
            async with first.using():
                published = await once.adelay(1)
                waiting = [asyncio.create_task(wait(each)) for each in others]
                while len(_publishing()) < count:
                    await asyncio.sleep(0.01)
                await adelay(add, 1, 1)
                add.delay(1, 2)
            await first.commit()
            for duplicate in await asyncio.gather(*waiting):
                assert (duplicate.id, duplicate.conflict) == (published.id, True)
            assert len(states(connection)) == 3

    run(work())


def test_run_sync_is_as_synchronous_code(one: Open, app: Celery, connection: Connection):
    add = app.tasks["add"]

    def publish(session: Any) -> Any:
        with using(session):
            return add.delay(1, 1)

    async def work() -> None:
        async with one() as caller:
            first = await caller.connection.run_sync(publish)
            async with using(caller.connection):
                second = await caller.connection.run_sync(publish)
                third = await caller.connection.run_sync(lambda _: add.delay(1, 2))
            assert states(connection) == {}
            await caller.commit()
            assert [*states(connection)] == [first.id, second.id, third.id]

    run(work())


def test_a_bulk_on_the_loop_is_written_at_its_end_however_large_it_is(
    one: Open, app: Celery, connection: Connection
):
    add = app.tasks["add"]

    async def work() -> None:
        async with one() as caller:
            async with using(caller.connection):
                with bulk(size=2):
                    for n in range(5):
                        add.delay(1, n)
                async with bulk(size=2):
                    for n in range(5):
                        add.delay(2, n)
            with using(caller.connection):
                async with bulk(size=2):
                    for n in range(5):
                        add.delay(3, n)
            assert states(connection) == {}
            await caller.commit()
            expected = [[n, m] for n in (1, 2, 3) for m in range(5)]
            assert [job.args for job in jobs(app)] == expected

    run(work())


def test_two_hundred_requests_at_once_each_have_their_own(
    url: str, app: Celery, connection: Connection
):
    """As a web application has them: a session each, over a pool, and half of them fail."""
    add = app.tasks["add"]
    kept: set[str] = set()

    async def request(make_session: Any, number: int) -> None:
        async with make_session() as session:
            async with using(session):
                await session.execute(sqlalchemy.text("SELECT 1"))
                result = await adelay(add, number, 0) if number % 4 < 2 else add.delay(number, 1)
                await asyncio.sleep(0)
            if number % 2:
                await session.rollback()
            else:
                await session.commit()
                kept.add(result.id)

    async def work() -> None:
        engine = aio.create_async_engine(sqlalchemy_url(url, "asyncpg"), pool_size=20)
        make_session = aio.async_sessionmaker(engine)
        await asyncio.gather(*(request(make_session, number) for number in range(200)))
        await engine.dispose()

    run(work())
    assert len(kept) == 100
    assert states(connection).keys() == kept


def test_a_synchronous_connection_does_in_an_asyncio_program_too(
    url: str, app: Celery, connection: Connection
):
    add = app.tasks["add"]

    async def work() -> None:
        engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg2"))
        with orm.Session(engine) as session:
            async with using(session):
                first = add.delay(1, 1)
                more = await asyncio.gather(*(adelay(add, 1, n) for n in range(5)))
            assert states(connection) == {}
            session.commit()
            assert states(connection).keys() == {first.id, *(result.id for result in more)}
        engine.dispose()

    run(work())
