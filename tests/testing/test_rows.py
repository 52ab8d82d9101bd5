"""The helpers in mode "real": rows in PostgreSQL."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from celery import Celery, chord, group
from kombu import Exchange, Queue

from pgjobs_celery import PgTask, jobs, using
from pgjobs_celery.config import Options
from pgjobs_celery.db import database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import UnknownTask
from pgjobs_celery.testing import advance, drain_queue, due, perform_job, testing
from tests.conftest import Connection, close_app


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    app = Celery("rows", broker=url, backend=url, set_as_current=False)
    app.task = functools.partial(app.task, shared=False)
    with testing(app, "real"):
        yield app
    close_app(app)


@pytest.fixture
def rolled_back(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction, as that of a test: what is done in it was never there."""
    with psycopg.connect(parse_url(url)) as connection:
        with using(connection):
            yield connection
        connection.rollback()


@pytest.fixture
def ran() -> list:
    return []


def states(app: Celery) -> dict[str, int]:
    return {str(state): n for state, n in jobs(app).count_by_state().items() if n}


def test_rows_are_run_and_say_what_became_of_them(app, ran):
    @app.task
    def note(what):
        ran.append(what)
        return what * 2

    sent = [note.apply_async([n], priority=5 - n) for n in (1, 2)]
    assert [job.args for job in due()] == [[2], [1]]
    assert drain_queue("celery") == {"completed": 2}
    assert ran == [2, 1]
    assert [each.get(timeout=5) for each in sent] == [2, 4]
    assert states(app) == {"completed": 2}
    assert drain_queue() == {}


@pytest.fixture
def of_another_app(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same database is known already, by an app with other options."""
    monkeypatch.setattr(database, "_databases", {})
    others = database.get_database(parse_url(url), Options(pool_size=3))
    yield
    others.close()


def test_within_a_transaction_all_of_it_is_part_of_that(
    of_another_app, app, rolled_back, ran, connection
):
    @app.task
    def second(what):
        ran.append(what)

    @app.task(base=PgTask, bind=True, max_attempts=2)
    def first(self, what):
        ran.append(what)
        self.meta["seen"] = what
        second.delay(what + 1)

    first.delay(1)
    assert drain_queue(with_recursion=True, with_safety=False) == {"completed": 2}
    assert ran == [1, 2]
    assert states(app) == {"completed": 2}
    assert jobs(app).filter(task=first).first().meta == {"seen": 1}
    # Nobody else has seen anything of it.
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.jobs").fetchone()["n"] == 0
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.nodes").fetchone()["n"] == 0


@pytest.mark.parametrize("place", ["alone", "in a transaction"])
def test_each_outcome_is_in_its_row(app, ending, place, request):
    if place != "alone":
        request.getfixturevalue("rolled_back")

    for how in ("snooze", "cancel", "discard", "fail", "nothing"):
        ending.delay(how)
    assert drain_queue() == {
        "snoozed": 1, "cancelled": 1, "discarded": 1, "retried": 1, "completed": 1,
    }  # fmt: skip
    assert states(app) == {
        "scheduled": 1, "cancelled": 1, "discarded": 1, "retryable": 1, "completed": 1,
    }  # fmt: skip
    failed = jobs(app).filter(state="retryable").first()
    assert [entry["message"] for entry in failed.errors] == ["no"]
    assert drain_queue(with_scheduled=True) == {"snoozed": 1, "discarded": 1}


@pytest.mark.parametrize("place", ["alone", "in a transaction"])
def test_celerys_retry_and_the_clock(app, place, request, ran):
    if place != "alone":
        request.getfixturevalue("rolled_back")

    @app.task(bind=True, max_retries=1)
    def work(self):
        ran.append(self.request.retries)
        raise self.retry(exc=ValueError("no"), countdown=60)

    work.apply_async(countdown=30)
    assert drain_queue() == {}
    advance(31)
    assert drain_queue() == {"retried": 1}
    advance(50)
    assert drain_queue() == {}
    advance(11)
    assert drain_queue() == {"discarded": 1}
    assert ran == [0, 1]
    assert states(app) == {"discarded": 1}


def test_perform_job_leaves_no_row(app, ran):
    @app.task
    def second(): ...

    @app.task(base=PgTask, bind=True)
    def work(self, what):
        second.delay()
        raise self.retry(countdown=5)

    performed = perform_job(work, [1], attempt=2)
    assert (performed.outcome, performed.delay) == ("retried", 5)
    assert [job.task for job in jobs(app)] == [second.name]


def test_what_performs_leaves_no_row_of_its_result(app):
    @app.task(base=PgTask)
    def work():
        return jobs(app).count()

    assert perform_job(work).get() == 0
    assert jobs(app).count() == 0
    assert work.delay().id
    assert drain_queue() == {"completed": 1}
    assert jobs(app).first().state == "completed"


def test_a_task_that_is_not_registered_stays_in_line(app):
    app.send_task("elsewhere.work")
    with pytest.raises(UnknownTask, match=r"elsewhere\.work"):
        drain_queue()
    assert states(app) == {"available": 1}


def test_a_chord_is_completed(app):
    @app.task
    def one(n):
        return n

    @app.task
    def total(numbers):
        return sum(numbers)

    result = chord(group(one.s(n) for n in range(3)))(total.s())
    assert drain_queue(with_recursion=True) == {"completed": 4}
    assert result.get(timeout=5) == 3


def test_without_safety_the_others_stay_in_line(app, connection: Connection):
    @app.task
    def work(n):
        raise ValueError(n)

    for n in range(3):
        work.delay(n)
    with pytest.raises(ValueError, match="0"):
        drain_queue(with_safety=False)
    assert states(app) == {"discarded": 1, "available": 2}
    assert drain_queue() == {"discarded": 2}
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.nodes").fetchone()["n"] == 0


def test_what_a_job_declares_outlives_the_transaction(app, url, connection):
    exchange = Exchange("mails", type="topic")
    app.conf.task_queues = [Queue("celery"), Queue("mail", exchange, routing_key="mail")]

    @app.task
    def second(): ...

    @app.task
    def first():
        second.apply_async(queue="mail")

    with psycopg.connect(parse_url(url)) as mine:
        with using(mine):
            first.delay()
            assert drain_queue("celery", with_safety=False) == {"completed": 1}
        mine.rollback()
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.jobs").fetchone()["n"] == 0
    # kombu has declared it, and does so once.
    first.delay()
    assert drain_queue(with_recursion=True, with_safety=False) == {"completed": 2}


def test_in_an_asyncio_transaction_it_goes_into_a_thread(app, url, ran, connection):
    @app.task(base=PgTask, bind=True)
    def note(self, what):
        self.meta["seen"] = what
        ran.append(what)

    async def test() -> None:
        async with await psycopg.AsyncConnection.connect(parse_url(url)) as mine:
            async with using(mine) as block:
                await note.adelay(7)
                assert await block.run(drain_queue) == {"completed": 1}
            await mine.rollback()

    asyncio.run(test())
    assert ran == [7]
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.jobs").fetchone()["n"] == 0
