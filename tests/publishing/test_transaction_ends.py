"""Transactions and savepoints that end while a block of ``bulk()`` collects for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from typing import Any

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import adelay, bulk, enqueue_many, using
from pgjobs_celery.db import sql
from pgjobs_celery.db.callers.psycopg_watching import PsycopgWatch
from pgjobs_celery.db.callers.watching import control_of
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import CannotJoin

from ..conftest import Connection
from ..support.callers import aio, orm, sqlalchemy, sqlalchemy_url, with_tasks
from .test_using import run


@pytest.fixture
def add(make_app: Callable[..., Celery]) -> Any:
    return with_tasks(make_app()).tasks["add"]


@pytest.fixture
def own(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the caller's own, not in autocommit."""
    with psycopg.connect(parse_url(url)) as own:
        yield own
        if not own.closed:
            own.rollback()


@pytest.fixture
def session(url: str) -> Iterator[Any]:
    """A session of the caller's own."""
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg2"))
    with orm.Session(engine) as session:
        yield session
    engine.dispose()


def numbers(connection: Connection) -> list[int]:
    """The first argument of each job."""
    rows = connection.execute(
        "SELECT convert_from(body, 'UTF8')::jsonb -> 0 -> 0 AS n FROM pgjobs.jobs ORDER BY seq"
    )
    return [row["n"] for row in rows]


def test_each_job_goes_with_its_own_transaction(add: Any, own: Any, connection: Connection):
    with using(own), bulk() as batch:
        for n in (1, 2, 3):
            add.delay(n, 0)
            if n == 2:
                own.rollback()
            else:
                own.commit()
        assert (len(batch), batch.written) == (0, 2)
    assert numbers(connection) == [1, 3]
    assert "commit" not in vars(own)


def test_a_commit_of_a_session_takes_along_what_was_collected(
    add: Any, session: Any, connection: Connection
):
    with using(session), bulk():
        add.delay(1, 0)
        session.commit()
        add.delay(2, 0)
        session.rollback()
        add.delay(3, 0)
        session.execute(sqlalchemy.text("SAVEPOINT a"))
        add.delay(4, 0)
        session.execute(sqlalchemy.text("ROLLBACK TO a"))
        add.delay(5, 0)
    session.commit()
    assert numbers(connection) == [1, 3, 5]


@pytest.mark.parametrize("again", [False, True], ids=["", "and goes on"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("has_session", [False, True], ids=["connection", "session"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_an_end_behind_the_back_of_sqlalchemy_is_an_error(
    url: str,
    add: Any,
    connection: Connection,
    driver: str,
    has_session: bool,
    end: str,
    again: bool,
):
    def publish(own: Any) -> None:
        with using(own), bulk():
            if not again:
                add.delay(1, 0)  # before anything is sent
            own.execute(sqlalchemy.text("SELECT 1"))
            if again:
                add.delay(1, 0)
            driven = own.connection() if has_session else own
            getattr(driven.connection.dbapi_connection, end)()
            if again:
                own.execute(sqlalchemy.text("SELECT 1"))

    engine = sqlalchemy.create_engine(sqlalchemy_url(url, driver))
    with orm.Session(engine) if has_session else engine.connect() as own:
        with pytest.raises(CannotJoin, match="1 step that was published"):
            publish(own)
        own.commit()
    engine.dispose()
    assert numbers(connection) == []


def test_many_from_an_iterable_that_commits_and_rolls_back(
    add: Any, own: Any, connection: Connection
):
    def items() -> Iterator[tuple[int, int]]:
        for n in (1, 2, 3):
            own.execute("SELECT 1")
            yield n, 0
            (own.rollback if n == 2 else own.commit)()

    with using(own):
        assert enqueue_many(add, items()) == 2
    assert numbers(connection) == [1, 3]


@pytest.mark.parametrize(
    "end",
    [
        "COMMIT",
        "/* all */ rollback",
        "SELECT 1; END",
        "SAVEPOINT a",
        b"COMMIT AND CHAIN",
        psycopg.sql.SQL("SAVEPOINT {}").format(psycopg.sql.Identifier("a")),
    ],
    ids=str,
)
def test_an_end_that_only_sql_makes_is_an_error(
    add: Any, own: Any, connection: Connection, end: Any
):
    def publish() -> None:
        with using(own), bulk():
            own.execute("SELECT 1")
            add.delay(1, 0)
            own.cursor().execute(end)
            add.delay(2, 0)

    with pytest.raises(CannotJoin, match="1 step that was published"):
        publish()
    own.commit()
    assert numbers(connection) == []
    assert "wait" not in vars(own)


def test_autocommit_that_is_switched_in_the_block_is_an_error(
    add: Any, own: Any, connection: Connection
):
    own.autocommit = True

    def publish() -> None:
        with using(own), bulk():
            add.delay(1, 0)
            own.autocommit = False

    with pytest.raises(CannotJoin):
        publish()
    assert numbers(connection) == []


def test_a_transaction_that_is_prepared_is_an_error(add: Any, own: Any, connection: Connection):
    own.tpc_begin("pgjobs-test")

    def publish() -> None:
        with using(own), bulk():
            own.execute("SELECT 1")
            add.delay(1, 0)
            own.tpc_rollback()

    with pytest.raises(CannotJoin):
        publish()
    assert numbers(connection) == []


def test_a_block_of_autocommit_is_not_mistaken_for_its_outside(
    add: Any, own: Any, connection: Connection
):
    own.autocommit = True
    with using(own), bulk():
        add.delay(1, 0)
        with own.transaction():
            add.delay(2, 0)
        with own.transaction(force_rollback=True):
            add.delay(3, 0)
        add.delay(4, 0)
    assert sorted(numbers(connection)) == [1, 2, 4]


def test_a_connection_that_is_closed_in_the_block_is_an_error(
    add: Any, own: Any, session: Any, connection: Connection
):
    def publish(close: Any) -> None:
        with using(close.__self__), bulk():
            add.delay(1, 0)
            close()

    with pytest.raises(psycopg.OperationalError, match="connection is closed"):
        publish(own.close)
    assert "wait" not in vars(own)
    with pytest.raises(CannotJoin):
        publish(session.close)
    assert numbers(connection) == []


def test_what_another_transaction_ends_is_not_written_into_a_third(
    url: str, add: Any, own: Any, connection: Connection
):
    """The commit comes where another connection is the one that is published over."""

    def publish(other: Any) -> None:
        with using(own), bulk():
            add.delay(1, 0)
            with using(other):
                add.delay(2, 0)
                own.commit()

    with psycopg.connect(parse_url(url)) as other:
        with pytest.raises(CannotJoin):
            publish(other)
        other.commit()
    assert numbers(connection) == [2]


def test_a_commit_by_another_thread_is_an_error(add: Any, own: Any, connection: Connection):
    def publish() -> None:
        with using(own), bulk():
            own.execute("SELECT 1")
            add.delay(1, 0)
            thread = threading.Thread(target=own.commit)
            thread.start()
            thread.join()

    with pytest.raises(CannotJoin):
        publish()
    assert numbers(connection) == []


def test_what_was_collected_outside_is_written_outside(add: Any, own: Any, connection: Connection):
    with bulk() as batch:
        add.delay(1, 0)
        with using(own):
            batch.flush()
            own.rollback()
    assert numbers(connection) == [1]


def test_on_an_event_loop_the_next_transaction_is_told_from_this_one(
    url: str, add: Any, connection: Connection
):
    async def publish() -> None:
        async with await psycopg.AsyncConnection.connect(parse_url(url)) as own, using(own):
            await own.execute("SELECT 1")
            add.delay(1, 0)
            await own.commit()
            await own.execute("SELECT 1")  # as if nothing had been
            with pytest.raises(CannotJoin):
                add.delay(2, 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(publish())

    async def publish_at_once() -> None:
        async with await psycopg.AsyncConnection.connect(parse_url(url)) as own, using(own):
            await adelay(add, 3, 0)
            await own.commit()
            await adelay(add, 4, 0)
            await own.rollback()

    run(publish_at_once())
    assert numbers(connection) == [3]


def run_on_engine(url: str, publish: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Publish over an asyncio engine on asyncpg, which is closed afterwards."""

    async def publish_and_dispose() -> None:
        engine = aio.create_async_engine(sqlalchemy_url(url, "asyncpg"))
        try:
            await publish(engine)
        finally:
            await engine.dispose()

    run(publish_and_dispose())


@pytest.mark.parametrize("is_connected", [True, False])
@pytest.mark.parametrize("way", ["session", "connection", "driver"])
def test_a_savepoint_that_only_sql_makes_over_an_asyncio_session_is_an_error(
    url: str, add: Any, connection: Connection, way: str, is_connected: bool
):
    async def control(session: Any, statement: str) -> None:
        if way == "session":
            await session.execute(sqlalchemy.text(statement))
        elif way == "connection":
            await (await session.connection()).execute(sqlalchemy.text(statement))
        else:
            await (await session.connection()).exec_driver_sql(statement)

    async def publish(engine: Any) -> None:
        async with aio.AsyncSession(engine) as session, session.begin(), using(session):
            if is_connected:
                await session.execute(sqlalchemy.text("SELECT 1"))
            add.delay(1, 0)
            await control(session, "SAVEPOINT a")
            add.delay(2, 0)

    with pytest.raises(CannotJoin):
        run_on_engine(url, publish)
    assert numbers(connection) == []


def test_an_end_behind_the_back_of_an_asyncio_session_is_an_error(
    url: str, add: Any, connection: Connection
):
    async def publish(engine: Any) -> None:
        async with aio.AsyncSession(engine) as session, session.begin(), using(session):
            await session.execute(sqlalchemy.text("SELECT 1"))
            add.delay(1, 0)
            raw = await (await session.connection()).get_raw_connection()
            await raw.driver_connection.execute("ROLLBACK")

    with pytest.raises(CannotJoin):
        run_on_engine(url, publish)
    assert numbers(connection) == []


def test_the_connections_of_a_session_are_known(session: Any):
    """Fails where a later SQLAlchemy keeps them elsewhere."""
    connections_of = import_module("pgjobs_celery.db.callers.sqlalchemy_watching").connections_of
    assert connections_of(session) == set()
    own = session.connection()
    assert connections_of(session) == {own}
    with session.begin_nested():
        assert connections_of(session) == {own}


def test_no_statement_of_ours_seems_to_end_anything():
    texts = [sql.statement(path.stem, "pgjobs") for path in sql.QUERIES.glob("*/*.sql")]
    assert len(texts) > 100
    assert [text for text in texts if control_of(str(text)) is not None] == []


def test_psycopg_does_all_of_its_work_by_the_method_that_is_watched(url: str):
    """Fails where a later psycopg does not: then nothing tells one transaction from the next."""

    class Nothing:
        def write_before(self, watch: Any) -> None: ...
        def drop(self, watch: Any) -> None: ...

    def is_seen(work: Callable[[], Any]) -> bool:
        watch.begin()
        work()
        return not watch.is_there

    with psycopg.connect(parse_url(url)) as own:
        watch = PsycopgWatch(Nothing(), own)
        own.execute("SELECT 1")
        for end in (own.commit, own.rollback, lambda: own.execute("SAVEPOINT a")):
            own.execute("SELECT 1")
            assert is_seen(end)
        own.commit()
        with own.cursor() as cursor, own.cursor(name="theirs") as theirs:
            for harmless in (
                lambda: cursor.execute("CREATE TEMP TABLE mine AS SELECT 1 AS n"),
                lambda: cursor.executemany("INSERT INTO mine VALUES (%s)", [(1,), (2,)]),
                lambda: list(cursor.stream("SELECT 1")),
                lambda: theirs.execute("SELECT n FROM mine").fetchall(),
                lambda: list(cursor.copy("COPY mine TO STDOUT").__enter__()),
            ):
                assert not is_seen(harmless)
        own.rollback()
        watch.close()
        assert {"wait", "commit", "rollback"}.isdisjoint(vars(own))
