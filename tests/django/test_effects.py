"""``self.transaction("default")``: the job is completed in Django's transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import PgTask, using
from pgjobs_celery.testing import (
    advance,
    assert_enqueued,
    drain_queue,
    refute_enqueued,
    testing,
)
from pgjobs_celery.testing.running.rows import RowDraining

from ..conftest import Connection, close_app
from ..support.rows import row
from .conftest import new_app

db = pytest.importorskip("django.db")

Run = Callable[..., dict[str, Any]]


@pytest.fixture(params=["pgjobs", "pgjobs+django"])
def app(request: pytest.FixtureRequest, url: str) -> Any:
    """With the jobs at a URL of ours, and at Django's own."""
    app = new_app(url if request.param == "pgjobs" else "pgjobs+django://default")
    yield app
    close_app(app)


@pytest.fixture
def run(app: Celery, connection: Connection) -> Run:
    """Run a function as the body of a job; the job's row afterwards."""
    connection.execute("DROP TABLE IF EXISTS bookings")
    connection.execute("CREATE TABLE bookings (note text)")

    def run(body: Callable[[PgTask], Any]) -> dict[str, Any]:
        def run_body(self: PgTask) -> None:
            body(self)

        task = app.task(run_body, name="body", base=PgTask, bind=True, shared=False, max_attempts=1)
        result = task.delay()
        RowDraining(app).run(None, with_scheduled=False, with_recursion=False, with_safety=True)
        return row(connection, result.id)

    return run


def book(alias: str = "default") -> None:
    with db.connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO bookings VALUES ('x')")


def count(connection: Connection) -> int:
    found = connection.execute("SELECT count(*) AS n FROM bookings").fetchone()
    return int(found["n"]) if found else 0


@pytest.mark.parametrize("alias", ["default", "manual", "strict"])
def test_rows_and_outcome_come_together(alias: str, run: Run, connection: Connection, app: Celery):
    heard: list[str] = []

    def body(self: PgTask) -> None:
        with self.transaction(alias) as tx:
            book(alias)
            app.tasks["add"].delay(1, 2)
            if alias == "default":
                db.transaction.on_commit(
                    lambda: heard.append(row(connection, self.request.id)["state"])
                )
            tx.complete(7)

    found = run(body)
    assert (found["state"], bytes(found["result"])) == ("completed", b"7"), found["errors"]
    assert count(connection) == 1
    children = "SELECT count(*) AS n FROM pgjobs.jobs WHERE parent_id = %s"
    assert connection.execute(children, [found["task_id"]]).fetchone() == {"n": 1}
    assert heard == (["completed"] if alias == "default" else [])


@pytest.mark.parametrize("alias", ["default", "manual"])
def test_an_exception_leaves_nothing(alias: str, run: Run, connection: Connection):
    def body(self: PgTask) -> None:
        with self.transaction(alias):
            book(alias)
            raise ValueError

    assert run(body)["state"] == "discarded"
    assert count(connection) == 0


def test_an_atomic_block_around_it_is_refused(run: Run, connection: Connection):
    def body(self: PgTask) -> None:
        with db.transaction.atomic(), self.transaction("default"):
            book()

    found = run(body)
    assert (found["state"], count(connection)) == ("discarded", 0)
    assert "other code has begun" in found["errors"][0]["message"]


def test_a_hook_that_raises_comes_after_the_commit(run: Run, connection: Connection):
    def fail() -> None:
        raise ValueError("in a hook")

    def body(self: PgTask) -> None:
        with self.transaction("default"):
            book()
            db.transaction.on_commit(fail)

    found = run(body)
    assert (found["state"], found["errors"], count(connection)) == ("completed", [], 1)


@pytest.mark.parametrize("mode", ["manual", "real"])
def test_in_the_transaction_of_a_test(mode: str, run: Run, connection: Connection, app: Celery):
    """As ``TestCase`` and pytest-django's ``db`` have it: all of it is rolled back."""

    @app.task(name="in_test", base=PgTask, bind=True, shared=False, max_attempts=2)
    def in_test(self: PgTask) -> None:
        with self.transaction("default") as tx:
            book()
            app.tasks["add"].delay(1, 2)
            if self.request.attempt == 1:
                raise ValueError
            tx.complete(7)

    with testing(app, mode), db.transaction.atomic(), using("default"):
        in_test.delay()
        assert drain_queue() == {"retried": 1}
        refute_enqueued("add")
        advance(3600)
        assert drain_queue() == {"completed": 1}
        assert_enqueued("add", count=1)
        with db.connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM bookings")
            assert cursor.fetchone() == (1,)
        db.transaction.set_rollback(True)
    assert count(connection) == 0
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.jobs").fetchone() == {"n": 0}
