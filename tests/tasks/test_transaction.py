"""``self.transaction()`` in one process: its connections, and what it is without a row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import psycopg
import pytest
from celery import Celery
from psycopg.conninfo import make_conninfo

from pgjobs_celery import PgTask
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import CannotJoin, InvalidOption, JobCompleted
from pgjobs_celery.testing.running.rows import RowDraining

from ..conftest import Connection
from ..support.callers import sqlalchemy_url
from ..support.consumers import backends
from ..support.rows import row
from ..support.waiting import wait_for

sqlalchemy = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")

INSERT = "INSERT INTO bookings VALUES ('x')"


class Once(PgTask):
    abstract = True
    max_attempts = 1


@pytest.fixture
def ledger(connection: Connection) -> Callable[[], int]:
    """How many rows were booked."""
    connection.execute("DROP TABLE IF EXISTS bookings")
    connection.execute("CREATE TABLE bookings (note text)")

    def count() -> int:
        found = connection.execute("SELECT count(*) AS n FROM bookings").fetchone()
        return int(found["n"]) if found else 0

    return count


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


@pytest.fixture
def run(app: Celery, connection: Connection) -> Callable[..., dict[str, Any]]:
    """Run a function as the body of a job; the job's row afterwards."""

    def run(body: Callable[[Any], Any], **options: Any) -> dict[str, Any]:
        def run_body(self: PgTask) -> None:
            body(self)

        task = app.task(run_body, name="body", base=Once, bind=True, shared=False, **options)
        result = task.delay()
        RowDraining(app).run(None, with_scheduled=False, with_recursion=False, with_safety=True)
        del app._tasks["body"]
        return row(connection, result.id)

    return run


@pytest.fixture
def own(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(parse_url(url)) as connection:
        yield connection
        with suppress(psycopg.Error):
            connection.rollback()


@pytest.fixture
def engine(url: str) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"))
    yield engine
    engine.dispose()


def error_of(found: dict[str, Any]) -> str:
    (error,) = found["errors"]
    return f"{error['type']}: {error['message']}"


def test_it_completes_the_job(run: Any, own: Any, ledger: Any):
    def body(self: PgTask) -> None:
        with self.transaction(own) as tx:
            own.execute(INSERT)
            tx.complete({"a": 1})

    found = run(body)
    assert (found["state"], bytes(found["result"]), ledger()) == ("completed", b'{"a": 1}', 1)
    assert own.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize("autocommit", [False, True])
def test_what_was_begun_before_is_part_of_it(run: Any, own: Any, ledger: Any, autocommit: bool):
    own.autocommit = autocommit

    def body(self: PgTask, fails: bool = False) -> None:
        own.execute(INSERT)
        with self.transaction(own):
            own.execute(INSERT)
            if fails:
                raise ValueError

    assert run(body)["state"] == "completed"
    assert ledger() == 2
    assert run(lambda self: body(self, True))["state"] == "discarded"
    assert ledger() == (3 if autocommit else 2)


def test_a_session_is_flushed_before_its_outcome_is_written(run: Any, engine: Any, ledger: Any):
    base = orm.declarative_base()

    class Row(base):  # type: ignore[misc,valid-type]
        __tablename__ = "bookings"
        note = sqlalchemy.Column(sqlalchemy.Text, primary_key=True)

    def body(self: PgTask) -> None:
        with orm.Session(engine) as session:
            session.execute(sqlalchemy.text("SELECT 1"))
            with self.transaction(session):
                session.add(Row(note="y"))

    assert run(body)["state"] == "completed"
    assert ledger() == 1


def refusals(url: str, engine: Any, other_url: str) -> dict[str, tuple[Callable[..., Any], str]]:
    dsn = parse_url(url)

    def within(connect: Callable[[], Any], enter: Callable[[Any], Any]) -> Callable[..., Any]:
        def body(self: PgTask) -> None:
            with connect() as opened, enter(opened), self.transaction(opened):
                raise AssertionError("entered")

        return body

    def plainly(connect: Callable[[], Any]) -> Callable[..., Any]:
        def body(self: PgTask) -> None:
            with connect() as opened, self.transaction(opened):
                pass

        return body

    def commits(self: PgTask) -> None:
        with orm.Session(engine) as session, self.transaction(session):
            session.commit()

    def read(opened: Any) -> Any:
        opened.execute(sqlalchemy.text("SELECT 1"))
        return nullcontext()

    def connect() -> Any:
        return psycopg.connect(dsn)

    automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
    return {
        "in a block of psycopg's": (
            within(connect, lambda opened: opened.transaction()), "other code has begun",
        ),
        "in a pipeline": (within(connect, lambda opened: opened.pipeline()), "pipeline mode"),
        "in a block of the session's": (
            within(lambda: orm.Session(engine), lambda opened: opened.begin()),
            "other code has begun",
        ),
        "in a savepoint": (
            within(lambda: orm.Session(engine), lambda opened: opened.begin_nested()),
            "other code has begun",
        ),
        "a connection that has begun": (within(engine.connect, read), "other code has begun"),
        "autocommit": (plainly(automatic.connect), "autocommit mode"),
        "autocommit of a session": (
            plainly(lambda: orm.Session(automatic)), "autocommit mode",
        ),
        "a session that commits": (commits, "committed or rolled back within"),
        "another database": (
            plainly(lambda: psycopg.connect(parse_url(other_url))), "one transaction cannot change",
        ),
        "no writes": (
            plainly(
                lambda: psycopg.connect(dsn, options="-c default_transaction_read_only=on")
            ),
            "takes no writes",
        ),
        "no right": (
            plainly(lambda: psycopg.connect(make_conninfo(dsn, user="effects_nobody"))),
            "may not complete jobs",
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    "what", refusals("pgjobs://", sqlalchemy.create_engine("postgresql+psycopg://"), "")
)
def test_a_connection_that_cannot_commit_it_is_refused(
    what: str, run: Any, url: str, engine: Any, make_database: Callable[[], str],
    connection: Connection, ledger: Any,
):  # fmt: skip
    if what == "no right":
        with suppress(psycopg.errors.DuplicateObject):
            connection.execute("CREATE ROLE effects_nobody LOGIN")
        connection.execute("GRANT USAGE ON SCHEMA pgjobs TO effects_nobody")
        connection.execute("GRANT SELECT ON pgjobs.jobs TO effects_nobody")
    other = make_database() if what == "another database" else ""
    body, why = refusals(url, engine, other)[what]
    found = run(body)
    assert found["state"] == "discarded"
    assert error_of(found).startswith("CannotJoin: ")
    assert why in error_of(found)


def test_things_that_are_no_connection_are_refused(run: Any):
    for wrong in (object(), None):

        def body(self: PgTask, wrong: Any = wrong) -> None:
            with self.transaction(wrong):
                pass

        found = run(body)
        assert "InvalidOption" in error_of(found)
        assert "transaction()" in error_of(found)


def test_a_second_try_is_the_transaction(run: Any, own: Any, ledger: Any):
    def body(self: PgTask) -> None:
        for times in range(3):
            with suppress(ValueError), self.transaction(own) as tx:
                own.execute(INSERT)
                if times < 2:
                    raise ValueError
                tx.complete(times)

    found = run(body)
    assert (found["state"], bytes(found["result"]), ledger()) == ("completed", b"2", 1)


def test_a_commit_that_fails_fails_the_attempt(run: Any, own: Any, ledger: Any, connection: Any):
    connection.execute("ALTER TABLE bookings ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED")

    def body(self: PgTask) -> None:
        with self.transaction(own):
            own.execute(INSERT)
            own.execute(INSERT)

    found = run(body)
    assert (found["state"], ledger()) == ("discarded", 0)
    assert error_of(found).startswith("UniqueViolation")


def test_an_unknown_outcome_is_left_to_the_row(
    run: Any, url: str, ledger: Any, connection: Connection
):
    from ..support.proxies import Proxy

    with Proxy(url) as proxy:

        def body(self: PgTask) -> None:
            dsn = parse_url(proxy.url)
            with psycopg.connect(dsn) as mine, self.transaction(mine):
                mine.execute(INSERT)
                proxy.cut_question("COMMIT", keeps_server=True)

        def let_go() -> None:
            """The row is locked until then, and this waits for it."""
            wait_for(lambda: backends(connection, "wait_event_type = 'Lock'"))
            proxy.let_go()

        hears = threading.Thread(target=let_go)
        hears.start()
        found = run(body, commit_timeout=0.1)
        hears.join()
    assert ledger() == 0
    # No errback, and not the last word: the attempts were used up, and the row says so.
    assert found["state"] == "discarded"
    assert "OutcomeUnknown" in {each["type"] for each in found["errors"]}


# Without a row


def test_eagerly_it_is_a_transaction(app: Celery, own: Any, ledger: Any):
    @app.task(base=Once, bind=True, shared=False)
    def book(self: PgTask, fails: bool) -> str:
        with self.transaction(own) as tx:
            own.execute(INSERT)
            if fails:
                raise ValueError
            tx.complete("completed")
        return "returned"

    assert book.apply((False,)).get() == "completed"
    assert isinstance(book.apply((True,)).result, ValueError)
    assert ledger() == 1


def test_called_directly_it_may_be_part_of_another(app: Celery, own: Any, ledger: Any):
    @app.task(base=Once, bind=True, shared=False)
    def book(self: PgTask) -> str:
        with self.transaction(own) as tx:
            own.execute(INSERT)
            tx.complete("completed")
        return "returned"

    with own.transaction(force_rollback=True):
        assert book() == "returned"
        assert book() == "returned"
    assert ledger() == 0


def test_complete_belongs_into_the_block(app: Celery, own: Any):
    @app.task(base=Once, bind=True, shared=False)
    def book(self: PgTask) -> None:
        with self.transaction(own) as tx:
            pass
        tx.complete(1)

    with pytest.raises(JobCompleted):
        book()


def test_an_asyncio_connection_needs_async_with(app: Celery, url: str):
    import asyncio

    @app.task(base=Once, bind=True, shared=False)
    def book(self: PgTask, connection: Any) -> None:
        with self.transaction(connection):
            pass

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(parse_url(url)) as connection:
            with pytest.raises(InvalidOption, match="async with"):
                book(connection)

    asyncio.run(main())


def test_another_broker_is_refused(app: Celery, own: Any):
    from celery.app.trace import build_tracer

    @app.task(base=Once, bind=True, shared=False)
    def book(self: PgTask) -> None:
        with self.transaction(own):
            pass

    app.backend  # noqa: B018 - is made here
    traced = build_tracer(book.name, book, app=app)("an id", (), {}, {"id": "an id"})
    assert isinstance(traced.info.retval, CannotJoin)
    assert "another broker" in str(traced.info.retval)
