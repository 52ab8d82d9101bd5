"""kombu declares once; what a transaction of ours takes back is declared again."""

from __future__ import annotations

from typing import Any

import kombu
import pytest
from celery import Celery, Task, chord
from kombu import Exchange, Queue
from kombu.common import maybe_declare

from ..conftest import Connection, close_app
from ..support.consumers import consuming, drain
from ..support.holders import execute, hold

LATE = Queue("late", Exchange("late", "topic"), routing_key="late.#")
BINDING = ("late", "late", "late.#")


def part(number: Any) -> Any:
    return number


def test_a_declaration_is_made_again_after_the_rollback(broker: kombu.Connection):
    channel = broker.default_channel
    database = broker.transport.database

    def declare_in_vain() -> None:
        with database.transaction():
            assert maybe_declare(LATE(channel))
            raise ZeroDivisionError

    def declare_twice_in_vain() -> None:
        with database.transaction():
            with pytest.raises(ZeroDivisionError):
                declare_in_vain()  # in a savepoint
            assert maybe_declare(LATE(channel))
            with database.transaction():
                pass
            raise ZeroDivisionError

    for declare in (declare_in_vain, declare_twice_in_vain):
        with pytest.raises(ZeroDivisionError):
            declare()
        assert database.routes.list_bindings() == []
    assert maybe_declare(LATE(channel))
    assert database.routes.list_bindings() == [BINDING]
    with database.transaction():
        assert not maybe_declare(LATE(channel))  # nor is it forgotten without need


def test_what_was_declared_is_forgotten_where_the_commit_fails(
    broker: kombu.Connection, connection: Connection
):
    database = broker.transport.database

    def declare() -> None:
        with database.transaction(), database.connection() as own:
            maybe_declare(LATE(broker.default_channel))
            own.psycopg.execute(
                "CREATE TEMP TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP"
            )
            own.psycopg.execute("INSERT INTO once VALUES (1), (1)")

    with pytest.raises(Exception, match="once_n_key"):
        declare()
    broker.Producer().publish({}, exchange="late", routing_key="late.one", declare=[LATE])
    with consuming(broker, "late") as inbox:
        drain(broker, inbox, 1)


def test_the_queue_of_a_chords_body_that_is_rolled_back_can_be_published_to(
    url: str, connection: Connection
):
    app = Celery("late", broker=url, backend=url, set_as_current=False)
    app.conf.task_queues = [Queue("celery"), LATE]
    app.task(name="part")(part)
    declared: list[Any] = []

    class Undecided(Task):
        """Is published, to a queue that nobody has declared before, and then is not."""

        def apply_async(self, *args: Any, **kwargs: Any) -> Any:
            super().apply_async(*args, **kwargs)
            declared.extend(app.backend.database.routes.list_bindings())
            raise ZeroDivisionError

    body = app.task(name="body", base=Undecided)(part).s().set(queue="late", routing_key="late.one")
    chord([app.tasks["part"].s(1), app.tasks["part"].s(2)])(body)
    for _ in range(2):
        execute(app, hold(app))
    assert BINDING in declared
    assert not connection.execute("SELECT FROM pgjobs.jobs WHERE task = 'body'").fetchall()
    app.send_task("after", queue="late", routing_key="late.two")
    queues = connection.execute("SELECT queue FROM pgjobs.jobs WHERE task = 'after'")
    assert [row["queue"] for row in queues] == ["late"]
    assert app.backend.database.routes.list_bindings().count(BINDING) == 1
    close_app(app)
