"""Tasks that complete their jobs in their own transactions: each writes a row of a ledger."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any
from uuid import uuid4

import psycopg
import sqlalchemy
from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.signals import task_failure, task_postrun, task_retry, task_success
from sqlalchemy import orm

from pgjobs_celery import Cancel, Discard, PgTask, Snooze
from pgjobs_celery.db.dsn import parse_url

from ..support.callers import open_kind, sqlalchemy_url
from .tasks import URL, append, wait_for_file

app = Celery(
    "effects", broker=URL, backend=URL, task_cls="pgjobs_celery:PgTask", set_as_current=False
)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))

LEDGER = """
    CREATE TABLE IF NOT EXISTS ledger (
      job text, attempt integer, note text, at timestamptz DEFAULT clock_timestamp())
"""
BOOK = "INSERT INTO ledger (job, attempt, note) VALUES (%s, %s, %s)"

for each in (task_success, task_failure, task_retry, task_postrun):

    def note(signal: Any = each, sender: Any = None, **said: Any) -> None:
        if path := os.environ.get("PGJOBS_TEST_SIGNALS"):
            request = said.get("request") or sender.request
            task_id = said.get("task_id") or request.id
            state, result = said.get("state"), repr(said.get("retval", said.get("result")))
            append(path, json.dumps([signal.name, task_id, state, result]))

    each.connect(note, weak=False)


class Quick(PgTask):
    abstract = True

    def backoff(self, job: Any) -> float:
        return 0.05


def connect(url: str = "", **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(parse_url(url or str(URL)), **options)


@app.task(name="effects.follow")
def follow(*args: Any) -> Any:
    return args[0] if args else None


@app.task(name="effects.plain")
def plain(value: Any = None) -> Any:
    """What it does comes after it, by Celery's own code."""
    return value


@app.task(bind=True, base=Quick, name="effects.keep")
def keep(self: PgTask, value: Any = None) -> Any:
    """The same, in its own transaction."""
    with connect() as connection, self.transaction(connection) as tx:
        tx.complete(value)


@app.task(bind=True, base=Quick, name="effects.book", max_attempts=4)
def book(self: PgTask, how: str = "", url: str = "", **options: Any) -> Any:
    """Write a row, publish a follower, and do something that may go wrong, in the first attempt."""
    first = self.request.attempt == 1
    with connect(url, **options) as connection:
        with self.transaction(connection) as tx:
            connection.execute(BOOK, [self.request.id, self.request.attempt, how])
            follow.delay(self.request.id)
            tx.complete({"how": how})
            if first and how in WITHIN:
                WITHIN[how](self, connection)
        if how in AFTER:
            return AFTER[how](self, connection)
    return None


@app.task(bind=True, base=Quick, name="effects.book_anyhow")
async def book_anyhow(self: PgTask, kind: str, url: str = "", fails: bool = False) -> None:
    """The same over any kind of connection."""
    async with open_kind(kind, url or str(URL)) as caller:  # noqa: SIM117
        async with self.transaction(caller.connection) as tx:
            await caller.execute(
                f"INSERT INTO ledger (job, attempt, note) "
                f"VALUES ('{self.request.id}', {self.request.attempt}, '{kind}')"
            )
            await caller.publish(follow, self.request.id)
            if fails and self.request.attempt == 1:
                raise ValueError("in the block")
            tx.complete(kind)


@app.task(bind=True, base=Quick, name="effects.book_slowly")
async def book_slowly(self: PgTask, started: str) -> None:
    async with await psycopg.AsyncConnection.connect(parse_url(str(URL))) as connection:  # noqa: SIM117
        async with self.transaction(connection):
            await connection.execute(BOOK, [self.request.id, self.request.attempt, "slowly"])
            append(started, "started")
            await connection.execute("SELECT pg_sleep(60)")


@app.task(bind=True, base=Quick, name="effects.book_beside")
def book_beside(self: PgTask, begun: str, release: str, fails: bool = False) -> None:
    """Stands in its block, over a connection of the program's pool, until it is let go."""
    with orm.Session(engine()) as session, self.transaction(session) as tx:
        session.execute(
            sqlalchemy.text("INSERT INTO ledger (job, attempt, note) VALUES (:job, :n, 'beside')"),
            {"job": self.request.id, "n": self.request.attempt},
        )
        follow.delay(self.request.id)
        append(begun, self.request.id)
        wait_for_file(release)
        if fails and self.request.attempt == 1:
            raise ValueError("in the block")
        tx.complete(self.request.id)


@cache
def engine() -> Any:
    """One for the process, with a pool, as programs have it."""
    return sqlalchemy.create_engine(sqlalchemy_url(str(URL), "psycopg"), pool_size=10)


@app.task(bind=True, base=Quick, name="effects.book_often", max_attempts=1000)
def book_often(self: PgTask) -> None:
    """A step, a row and a follower, with waits at which the process may be killed."""
    token = self.step("token", lambda: uuid4().hex)
    with connect() as connection, self.transaction(connection) as tx:
        connection.execute(BOOK, [self.request.id, self.request.attempt, token])
        connection.execute("SELECT pg_sleep(0.02)")
        follow.delay(self.request.id)
        tx.complete(token)
    with connect() as connection:
        connection.execute("SELECT pg_sleep(0.02)")


@app.task(bind=True, base=Quick, name="effects.limited_greenlet", time_limit=1, max_attempts=1)
def limited_greenlet(self: PgTask) -> None:
    with connect() as connection, self.transaction(connection):
        connection.execute(BOOK, [self.request.id, self.request.attempt, "limited"])
        connection.execute("SELECT pg_sleep(60)")


@app.task(bind=True, base=Quick, name="effects.ignored", ignore_result=True)
def ignored(self: PgTask, how: str = "") -> None:
    with connect() as connection:
        with self.transaction(connection) as tx:
            connection.execute(BOOK, [self.request.id, self.request.attempt, how])
            tx.complete("seen by no one")
        if how in AFTER:
            AFTER[how](self, connection)


class Early(Quick):
    abstract = True

    def before_start(self, *args: Any) -> None:
        with connect() as connection, self.transaction(connection):
            pass


@app.task(bind=True, base=Early, name="effects.early", max_attempts=1)
def early(self: PgTask) -> None: ...


@app.task(bind=True, base=Quick, name="effects.limited", soft_time_limit=1, time_limit=30)
def limited(self: PgTask) -> None:
    with connect() as connection, self.transaction(connection):
        connection.execute(BOOK, [self.request.id, self.request.attempt, "limited"])
        if self.request.attempt == 1:
            time.sleep(30)


@app.task(bind=True, base=Quick, name="effects.overtime", time_limit=2, max_attempts=1)
def overtime(self: PgTask) -> None:
    with connect() as connection:
        with self.transaction(connection) as tx:
            connection.execute(BOOK, [self.request.id, self.request.attempt, "overtime"])
            tx.complete("in time")
        time.sleep(60)


def lose(self: PgTask, connection: Any) -> None:
    """Another process takes the job, as after the worker was taken for dead."""
    with connect(autocommit=True) as other:
        other.execute(
            "UPDATE pgjobs.jobs SET state = 'available', claimed_by = NULL WHERE task_id = %s",
            [self.request.id],
        )


def fail(*_: Any) -> None:
    raise ValueError("in the block")


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def snooze(self: PgTask, _: Any) -> None:
    if "snoozed" not in self.meta:
        raise Snooze(0.05)


def cancel(*_: Any) -> None:
    raise Cancel("enough")


def discard(*_: Any) -> None:
    raise Discard("for good")


def retry(self: PgTask, _: Any) -> None:
    raise self.retry(countdown=0.05)


def replace(self: PgTask, _: Any) -> None:
    self.replace(follow.s("instead"))


def ignore(*_: Any) -> None:
    raise Ignore


def reject(*_: Any) -> None:
    raise Reject("no")


def break_it(self: PgTask, connection: Any) -> None:
    with suppress(psycopg.Error):  # and goes on in a transaction that has failed
        connection.execute("SELECT 1 / 0")


def undo(*_: Any) -> None:
    raise psycopg.Rollback


def commit(self: PgTask, connection: Any) -> None:
    connection.commit()


def twice(self: PgTask, connection: Any) -> None:
    with self.transaction(connection):
        pass


def encode(self: PgTask, connection: Any) -> None:
    progress = self.request.pgjobs_progress
    progress.effects.value = object()


def linger(*_: Any) -> None:
    time.sleep(60)


def leave(*_: Any) -> None:
    sys.exit(3)


def assert_claim(self: PgTask, connection: Any) -> None:
    connection.execute(
        "SELECT pgjobs.assert_claim(%s, %s)", [self.request.id, self.request.attempt]
    )


def another(*_: Any) -> Any:
    return {"how": "another value"}


WITHIN: dict[str, Callable[..., Any]] = {
    "lose": lose, "fail": fail, "kill within": kill, "snooze": snooze, "cancel": cancel,
    "discard": discard, "retry": retry, "replace": replace, "ignore": ignore, "reject": reject,
    "break": break_it, "undo": undo, "commit": commit, "nest": twice, "encode": encode,
    "leave": leave, "assert": assert_claim,
}  # fmt: skip
AFTER: dict[str, Callable[..., Any]] = {
    "fail after": fail, "kill after": kill, "snooze after": snooze, "retry after": retry,
    "replace after": replace, "twice": twice, "another": another, "leave after": leave,
    "cancel after": cancel, "reject after": reject, "linger": linger,
}  # fmt: skip
