"""psycopg connections in every way that they may be used, and what is no connection."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from celery import Celery
from psycopg.rows import class_row, dict_row

from pgjobs_celery import Unique, adelay, jobs, using
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import CannotJoin, InvalidOption, TransactionFailed

from ..conftest import Connection
from ..support.callers import aio, orm, sqlalchemy, sqlalchemy_url, with_tasks
from ..support.rows import states
from .test_using import RolledBack, run


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return with_tasks(make_app(), unique=Unique(period=None))


@pytest.fixture
def dsn(url: str) -> str:
    return parse_url(url)


@pytest.mark.parametrize(
    "options",
    [
        {"row_factory": dict_row},
        {"row_factory": class_row(dict)},
        {"cursor_factory": psycopg.RawCursor},
        {"cursor_factory": psycopg.ClientCursor, "prepare_threshold": 0},
    ],
    ids=["dict_row", "class_row", "RawCursor", "ClientCursor"],
)
def test_rows_and_cursors_may_be_of_any_kind(
    app: Celery, dsn: str, connection: Connection, options: dict[str, Any]
):
    with psycopg.connect(dsn, **options) as own, using(own):
        first, again = app.tasks["once"].delay(1), app.tasks["once"].delay(1)
        assert (again.id, again.conflict) == (first.id, True)
        assert [job.task_id for job in jobs(app)] == [first.id]
    assert states(connection) == {first.id: "available"}


def test_in_a_pipeline(app: Celery, dsn: str, connection: Connection):
    with psycopg.connect(dsn) as own, own.pipeline():
        own.execute("CREATE TEMP TABLE mine (id integer)")
        with using(own):
            own.execute("INSERT INTO mine VALUES (1)")
            first, again = app.tasks["once"].delay(1), app.tasks["once"].delay(1)
            assert (again.id, again.conflict) == (first.id, True)
            own.execute("INSERT INTO mine VALUES (2)")
    assert states(connection) == {first.id: "available"}


def test_in_a_pipeline_of_an_asyncio_connection(app: Celery, dsn: str, connection: Connection):
    async def work() -> Any:
        async with (
            await psycopg.AsyncConnection.connect(dsn) as own,
            own.pipeline(),
            using(own),
        ):
            await own.execute("SELECT 1")
            first = await adelay(app.tasks["once"], 1)
            again = await adelay(app.tasks["once"], 1)
            assert (again.id, again.conflict) == (first.id, True)
            return first

    first = run(work())
    assert states(connection) == {first.id: "available"}


def test_with_autocommit_it_is_the_block_that_is_a_transaction(
    app: Celery, dsn: str, connection: Connection
):
    add = app.tasks["add"]
    with psycopg.connect(dsn, autocommit=True) as own, using(own):
        at_once = add.delay(1, 1)
        assert states(connection).keys() == {at_once.id}
        with suppress(RolledBack), own.transaction():
            add.delay(1, 2)
            raise RolledBack
        with own.transaction():
            kept = add.delay(1, 3)
            with own.transaction(force_rollback=True):
                add.delay(1, 4)
            assert states(connection).keys() == {at_once.id}
        assert states(connection).keys() == {at_once.id, kept.id}


def test_within_the_block_kombu_is_told_not_to_try_again(app: Celery, dsn: str):
    with psycopg.connect(dsn) as own:
        block = using(own)
        block.__enter__()
        own.pgconn.finish()
        with pytest.raises(TransactionFailed) as inside:
            app.tasks["add"].delay(1, 1)
        with pytest.raises(psycopg.OperationalError) as outside:
            block.__exit__(TransactionFailed, inside.value, None)
        assert inside.value.__cause__ is outside.value


def test_other_threads_and_what_they_start_do_not_take_part(
    app: Celery, dsn: str, connection: Connection
):
    add = app.tasks["add"]
    results: list[Any] = []
    with psycopg.connect(dsn) as own, using(own):
        thread = threading.Thread(target=lambda: results.append(add.delay(1, 1)))
        thread.start()
        thread.join()
        results.append(asyncio.run(_adelay(add)))
        add.delay(1, 2)
        own.rollback()
    assert states(connection).keys() == {result.id for result in results}


async def _adelay(task: Any) -> Any:
    return await adelay(task, 2, 1)


def test_a_block_can_be_entered_again_and_nested_in_itself(
    app: Celery, dsn: str, connection: Connection
):
    add = app.tasks["add"]
    with psycopg.connect(dsn) as own:
        block = using(own)
        for _ in range(2):
            with block, block:
                add.delay(1, 1)
            outside = add.delay(1, 2)
            assert outside.id in states(connection)
        own.rollback()
    assert len(states(connection)) == 2


def test_a_block_that_several_enter_at_once_ends_for_each_of_them(
    app: Celery, dsn: str, connection: Connection
):
    add, apart = app.tasks["add"], using(None)
    first_is_in, both_are_in, first_is_out = (threading.Event() for _ in range(3))

    def enter_second() -> None:
        first_is_in.wait(10)
        with apart:
            both_are_in.set()
            first_is_out.wait(10)

    thread = threading.Thread(target=enter_second)
    thread.start()
    with psycopg.connect(dsn) as own, using(own):
        with apart:
            first_is_in.set()
            both_are_in.wait(10)
        add.delay(1, 1)
        first_is_out.set()
        thread.join()
        own.rollback()
    assert states(connection) == {}


def test_a_process_that_dies_before_the_commit_leaves_nothing(
    url: str, dsn: str, connection: Connection
):
    program = f"""
import os, signal, psycopg
from celery import Celery
from pgjobs_celery import using
app = Celery(broker={url!r})
with psycopg.connect({dsn!r}) as connection, using(connection):
    connection.execute("SELECT 1")
    app.send_task("add", (1, 1))
    assert connection.execute("SELECT count(*) FROM pgjobs.jobs").fetchone() == (1,)
    print("published", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("published\n", -9)
    assert states(connection) == {}


def test_who_loses_a_deadlock_does_it_again_and_each_job_is_there_once(
    app: Celery, dsn: str, connection: Connection
):
    """Two transactions publish the same unique jobs, in opposite order."""
    once, add = app.tasks["once"], app.tasks["add"]
    both = threading.Barrier(2)
    failures: list[psycopg.Error] = []

    def publish(own: psycopg.Connection[Any], first: int, second: int) -> None:
        while True:
            try:
                with own.transaction(), using(own):
                    add.delay(first, second)
                    once.delay(first)
                    if not failures:
                        both.wait(10)
                    once.delay(second)
                return
            except psycopg.errors.DeadlockDetected as error:
                failures.append(error)

    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        for own in (one, other):
            own.execute("SET deadlock_timeout = '100ms'")
            own.commit()
        thread = threading.Thread(target=publish, args=(one, 1, 2))
        thread.start()
        publish(other, 2, 1)
        thread.join()
    assert failures  # a busy server may end one of them again
    assert sorted(job.args for job in jobs(app)) == [[1], [1, 2], [2], [2, 1]]


def test_who_fails_to_serialize_does_it_again_and_there_is_one_job(
    app: Celery, dsn: str, connection: Connection
):
    connection.execute("DROP TABLE IF EXISTS accounts")
    connection.execute("CREATE TABLE accounts (id integer PRIMARY KEY, n integer)")
    connection.execute("INSERT INTO accounts VALUES (1, 0)")
    engine = sqlalchemy.create_engine(
        sqlalchemy_url(app.conf.broker_url, "psycopg"), isolation_level="SERIALIZABLE"
    )

    def transfer(tries: int) -> None:
        with orm.Session(engine) as session, session.begin(), using(session):
            session.execute(sqlalchemy.text("SELECT sum(n) FROM accounts"))
            if tries == 1:
                connection.execute("UPDATE accounts SET n = n + 1")
            app.tasks["add"].delay(tries, 0)
            session.execute(sqlalchemy.text("UPDATE accounts SET n = n + 1"))

    with pytest.raises(sqlalchemy.exc.OperationalError, match="SerializationFailure"):
        transfer(1)
    transfer(2)
    engine.dispose()
    assert [job.args for job in jobs(app)] == [[2, 0]]


def test_what_is_no_connection_is_refused_with_a_remedy(dsn: str, url: str):
    import asyncpg
    import psycopg2

    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"))
    async_engine = aio.create_async_engine(sqlalchemy_url(url, "asyncpg"))
    closed = psycopg.connect(dsn)
    closed.close()
    other = psycopg2.connect(dsn)
    lite = sqlalchemy.create_engine("sqlite://")
    by_mapper = orm.Session(binds={dict: engine})

    async def raw() -> Any:
        connection = await asyncpg.connect(url.replace("pgjobs", "postgresql", 1))
        try:
            refused(connection, "asyncpg.connection.Connection: asyncpg by itself")
            refused(async_engine.connect(), "has not begun")
            opening = psycopg.AsyncConnection.connect(dsn)
            refused(opening, "await it first")
            await (await opening).close()
        finally:
            await connection.close()

    def refused(connection: Any, words: str) -> None:
        with pytest.raises(InvalidOption) as error:
            using(connection)
        assert words in str(error.value)
        assert "secret" not in str(error.value)

    refused(engine, "sqlalchemy.engine.base.Engine: it has no transaction of its own")
    refused(async_engine, "AsyncEngine: it has no transaction of its own")
    refused(orm.sessionmaker(engine), "sessionmaker: it makes sessions")
    refused(orm.Session(lite), "sqlite+pysqlite")
    refused(by_mapper, "bind_arguments")
    refused(closed, "closed")
    refused(other, "psycopg2 by itself is not supported")
    refused(psycopg.Cursor(closed), "pass its connection")
    refused(42, "a builtins.int: it takes a connection of psycopg 3")
    for secret in ("postgresql://me:secret@localhost/app", "host=localhost password=secret"):
        refused(secret, "connect there and pass the connection")
    refused(aio.AsyncSession(async_engine), "no event loop runs")
    run(raw())
    other.close()
    connection = engine.connect()
    connection.close()
    refused(connection, "closed")
    engine.dispose()


def test_a_scoped_session_is_that_of_who_enters_the_block(
    app: Celery, url: str, connection: Connection
):
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"))
    scoped = orm.scoped_session(orm.sessionmaker(engine))
    with using(scoped):
        result = app.tasks["add"].delay(1, 1)
    assert states(connection) == {}
    scoped.commit()
    assert states(connection).keys() == {result.id}
    scoped.remove()

    async def work() -> None:
        scoped = aio.async_scoped_session(
            aio.async_sessionmaker(
                aio.create_async_engine(
                    sqlalchemy_url(url, "asyncpg"), poolclass=sqlalchemy.NullPool
                )
            ),
            scopefunc=asyncio.current_task,
        )
        async with using(scoped):
            app.tasks["add"].delay(1, 2)
        assert len(states(connection)) == 1
        await scoped.commit()
        await scoped.remove()

    run(work())
    engine.dispose()
    assert len(states(connection)) == 2


def test_an_asyncio_connection_cannot_be_waited_for_by_a_thread_of_the_users(
    app: Celery, dsn: str, connection: Connection
):
    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as own, using(own):
            with pytest.raises(CannotJoin, match=r"block\.run"):
                jobs(app).count()
            await own.rollback()

    run(work())
