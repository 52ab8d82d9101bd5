"""Mode real: the same assertions, of rows; also of those that are not committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from celery import Celery, chain
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from pgjobs_celery import PgTask, jobs, using
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import PgJobsError
from pgjobs_celery.testing import (
    all_enqueued,
    assert_enqueued,
    assert_enqueued_in_order,
    refute_enqueued,
    testing,
)

from ..conftest import close_app


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """An app with rows."""
    app = Celery("proj", broker=url, backend=url, set_as_current=False)
    yield app
    close_app(app)


@pytest.fixture
def welcome(app: Celery) -> Any:
    """A PgTask."""

    @app.task(base=PgTask, name="proj.welcome", shared=False, tags=["mail"])
    def welcome(user_id: int, template: str = "short") -> None: ...

    return welcome


def test_rows_are_asserted_of_as_what_is_captured(app: Celery, welcome: Any):
    with testing(app, "real"):
        refute_enqueued(welcome)
        chain(welcome.s(7), welcome.si(8)).apply_async(
            priority=3, countdown=60, unique=True, headers={"tenant": 1}
        )
        [job] = assert_enqueued(
            welcome,
            kwargs={"user_id": 7, "template": "short"},
            countdown=60,
            priority=3,
            tags=["mail"],
            unique=True,
            headers={"tenant": 1},
            chain=[welcome.si(8)],
        )
        assert job.number == jobs(app).first().id
        with pytest.raises(AssertionError, match=r"kwargs\['user_id'\]  expected 8, got 7"):
            assert_enqueued(welcome, kwargs={"user_id": 8})


def test_a_block_is_about_the_rows_it_adds(app: Celery, welcome: Any):
    welcome.delay(1)
    with (
        testing(app, "real"),
        assert_enqueued(welcome, count=2),
        refute_enqueued("other", elsewhere=True),
    ):
        welcome.delay(2)
        welcome.delay(3)


def test_what_waits_no_more_is_not_enqueued(app: Celery, welcome: Any):
    with testing(app, "real"):
        welcome.delay(1).revoke()
        refute_enqueued(welcome)
        with pytest.raises(AssertionError, match="waits no more: 1 cancelled"):
            assert_enqueued(welcome)


def test_what_is_published_in_a_transaction_is_seen_in_it_and_gone_with_it(
    app: Celery, welcome: Any, url: str
):
    engine = create_engine(parse_sqlalchemy(url))
    with testing(app, "real"):
        with engine.connect() as connection, connection.begin() as outer:
            session = Session(connection, join_transaction_mode="create_savepoint")
            with using(session):
                welcome.delay(7)
                assert_enqueued(welcome, args=[7])
                session.commit()
                assert_enqueued(welcome, args=[7])
            outer.rollback()
        refute_enqueued(welcome)
    engine.dispose()


def test_a_rolled_back_transaction_has_enqueued_nothing(app: Celery, welcome: Any, url: str):
    def fail() -> None:
        with psycopg.connect(parse_url(url)) as connection, using(connection):
            welcome.delay(7)
            welcome.delay(1 // 0)

    with testing(app, "real"), refute_enqueued(welcome), suppress(ZeroDivisionError):
        fail()


def test_what_another_process_enqueues_is_waited_for(app: Celery, welcome: Any):
    timer = threading.Timer(0.1, welcome.delay, (1,))
    with testing(app, "real"):
        timer.start()
        assert_enqueued(welcome, timeout=5)
    timer.join()


def test_within_a_manual_block_it_leads_to_the_rows_again(
    app: Celery, welcome: Any, make_database: Callable[[], str]
):
    with testing(app) as captured:
        with testing(app, "real"):
            welcome.delay(1)
            assert_enqueued(welcome, args=[1])
        welcome.delay(2)
        refute_enqueued(welcome, args=[1])
        with pytest.raises(PgJobsError):
            jobs(app)
    assert [job.args for job in captured.inbox.find()] == [[2]]
    assert jobs(app).count() == 1


def test_the_order_of_rows_and_those_of_a_transaction(app: Celery, welcome: Any):
    with testing(app, "real"):
        for number in range(3):
            welcome.delay(number)
        assert [job.args for job in all_enqueued(welcome)] == [[0], [1], [2]]
        assert_enqueued_in_order(welcome, welcome, welcome)


def parse_sqlalchemy(url: str) -> str:
    return url.replace("pgjobs://", "postgresql+psycopg://", 1)
