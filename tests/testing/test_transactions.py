"""``self.transaction()`` in a test: without a worker, and within the test's own transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from celery import Celery, chain
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from pgjobs_celery import PgTask, using
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.testing import (
    advance,
    assert_enqueued,
    drain_queue,
    perform_job,
    refute_enqueued,
    steps_of,
    testing,
)

from ..conftest import Connection, close_app
from ..support.callers import sqlalchemy_url


class Place:
    """The connection that the code under test uses, in the transaction of a test."""

    def __init__(self, connection: Any, execute: Callable[[str], Any]) -> None:
        self.connection = connection
        self.execute = execute

    def count(self) -> int:
        """The rows that were booked, as the test sees them."""
        return int(self.execute("SELECT count(*) FROM booked").fetchone()[0])


@contextmanager
def over_psycopg(url: str) -> Iterator[Place]:
    connect = psycopg.connect(parse_url(url))
    with connect as connection, connection.transaction(force_rollback=True):
        yield Place(connection, connection.execute)


@contextmanager
def over_session(url: str, driver: str = "psycopg") -> Iterator[Place]:
    """As SQLAlchemy's documentation has it for test suites."""
    engine = create_engine(sqlalchemy_url(url, driver))
    with engine.connect() as connection:
        outer = connection.begin()
        session = Session(bind=connection, join_transaction_mode="create_savepoint")
        yield Place(session, lambda sql: session.execute(text(sql)))
        session.close()
        outer.rollback()
    engine.dispose()


@contextmanager
def over_psycopg2(url: str) -> Iterator[Place]:
    with over_session(url, "psycopg2") as place:
        yield place


@contextmanager
def over_connection(url: str) -> Iterator[Place]:
    engine = create_engine(sqlalchemy_url(url, "psycopg"))
    with engine.connect() as connection:
        outer = connection.begin()
        yield Place(connection, lambda sql: connection.execute(text(sql)))
        outer.rollback()
    engine.dispose()


STYLES = {
    "psycopg": over_psycopg, "session": over_session, "psycopg2": over_psycopg2,
    "connection": over_connection,
}  # fmt: skip


@pytest.fixture(autouse=True)
def table(connection: Connection) -> Iterator[None]:
    connection.execute("CREATE TABLE booked (job text)")
    yield
    connection.execute("DROP TABLE booked")


@pytest.fixture(params=STYLES)
def place(request: pytest.FixtureRequest, url: str) -> Iterator[Place]:
    with STYLES[request.param](url) as place:
        yield place


@pytest.fixture(params=["manual", "real"])
def tested(request: pytest.FixtureRequest, url: str, place: Place) -> Iterator[Celery]:
    """The app in a block, and in mode real also in the test's transaction."""
    app = with_tasks(Celery("proj", broker=url, backend=url, set_as_current=False), place)
    with testing(app, request.param):
        if request.param == "manual":
            yield app
        else:
            with using(place.connection):
                yield app
    close_app(app)


def with_tasks(app: Celery, place: Place) -> Celery:
    @app.task(name="follow", shared=False)
    def follow(*args: Any) -> Any:
        return args

    @app.task(name="book", base=PgTask, bind=True, shared=False, max_attempts=2)
    def book(self: PgTask, fails: int = 0) -> str:
        step = self.step("look", lambda: "looked")
        with self.transaction(place.connection) as tx:
            place.execute(f"INSERT INTO booked VALUES ('{self.request.id}')")
            follow.delay(self.request.id)
            self.step("within", lambda: "in the block")
            if self.request.attempt <= fails:
                raise ValueError("in the block")
            tx.complete(step)
        return "something else"

    @app.task(name="book_async", base=PgTask, bind=True, shared=False)
    async def book_async(self: PgTask) -> None:
        async with self.transaction(place.connection) as tx:
            place.execute(f"INSERT INTO booked VALUES ('{self.request.id}')")
            tx.complete("looked")

    return app


def test_a_job_books_in_the_transaction_of_the_test(tested: Celery, place: Place):
    tested.tasks["book"].delay()
    assert drain_queue() == {"completed": 1}
    assert place.count() == 1
    assert_enqueued("follow", count=1)


def test_an_attempt_that_fails_leaves_nothing_but_the_test_its_transaction(
    tested: Celery, place: Place
):
    place.execute("INSERT INTO booked VALUES ('before')")
    result = tested.tasks["book"].delay(fails=1)
    assert drain_queue() == {"retried": 1}
    assert place.count() == 1
    refute_enqueued("follow")
    assert steps_of(result) == {"look": "looked"}
    advance(3600)
    assert drain_queue() == {"completed": 1}
    assert place.count() == 2
    assert_enqueued("follow", count=1)


def test_an_attempt_that_fails_for_good_leaves_nothing(tested: Celery, place: Place):
    tested.tasks["book"].delay(fails=2)
    drain_queue()
    advance(3600)
    assert drain_queue() == {"discarded": 1}
    assert place.count() == 0
    refute_enqueued("follow")


def test_what_comes_after_it_gets_the_value_of_complete(tested: Celery, place: Place):
    chain(tested.tasks["book"].s(), tested.tasks["follow"].s()).delay()
    assert drain_queue("celery", with_recursion=True)["completed"] == 3
    assert place.count() == 1


def test_a_coroutine_does_as_well(tested: Celery, place: Place):
    tested.tasks["book_async"].delay()
    assert drain_queue() == {"completed": 1}
    assert place.count() == 1


def test_a_single_run_tells_its_outcome(tested: Celery, place: Place):
    book = tested.tasks["book"]
    done = perform_job(book)
    assert (done.get(), done.steps) == ("looked", {"look": "looked", "within": "in the block"})
    assert place.count() == 1
    failed = perform_job(book, kwargs={"fails": 1})
    assert (failed.outcome, type(failed.error)) == ("retried", ValueError)
    assert place.count() == 1


def test_a_rollback_of_the_test_leaves_nothing(url: str, connection: Connection):
    for style in STYLES.values():
        with style(url) as place:
            app = with_tasks(Celery("proj", broker=url, backend=url, set_as_current=False), place)
            with testing(app, "real"), using(place.connection):
                app.tasks["book"].delay()
                assert drain_queue() == {"completed": 1}
        close_app(app)
    for table in ("booked", "pgjobs.jobs", "pgjobs.steps"):
        assert connection.execute(f"SELECT count(*) AS n FROM {table}").fetchone() == {"n": 0}


def test_inline_it_runs_where_it_is_published(url: str, place: Place):
    app = with_tasks(Celery("proj", broker=url, backend=url, set_as_current=False), place)
    with testing(app, "inline"):
        assert app.tasks["book"].delay(fails=1).get() == "looked"
        assert place.count() == 1
        assert_enqueued("follow", count=1)
    close_app(app)


def test_without_a_transaction_of_the_test_it_commits(url: str, connection: Connection):
    with psycopg.connect(parse_url(url)) as own:
        place = Place(own, own.execute)
        for mode in ("manual", "real"):
            app = with_tasks(Celery("proj", broker=url, backend=url, set_as_current=False), place)
            with testing(app, mode):
                result = app.tasks["book"].delay()
                assert drain_queue()["completed"] >= 1
                assert result.get(timeout=10) == "looked"
                assert own.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            close_app(app)
    assert connection.execute("SELECT count(*) AS n FROM booked").fetchone() == {"n": 2}
