"""The app of the tests of steps: tasks with a memory, and a line in a file for each effect."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import psycopg
from celery import Celery

from pgjobs_celery import PgTask
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import CannotJoin, SignalTimeout

from .tasks import URL, append, wait_for_file

app = Celery(
    "steptasks", broker=URL, backend=URL, task_cls="pgjobs_celery:PgTask", set_as_current=False
)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))


class Quick(PgTask):
    """Its next attempt follows soon."""

    abstract = True

    def backoff(self, job: Any) -> float:
        return 0.05


def effect(path: str, what: str) -> str:
    append(path, what)
    return f"{what} done"


@app.task(base=Quick, bind=True, shared=False)
def fail_between(self: PgTask, path: str, times: int) -> list[Any]:
    """Two steps, of which each must run once, and a failure between them."""
    first = self.step("charge", effect, path, "charge")
    if self.request.attempt <= times:
        raise ValueError(f"time {self.request.attempt}")
    return [first, self.step("mail", effect, path, "mail"), self.request.attempt]


@app.task(base=Quick, bind=True, shared=False)
def loop(self: PgTask, path: str, times: int) -> list[str]:
    """A loop whose steps share a name."""
    done = []
    for number in range(times):
        done.append(self.step("part", effect, path, f"part {number}"))
        if self.request.attempt == number + 1:
            raise ValueError("again")
    return done


@app.task(base=Quick, bind=True, shared=False)
def leave(self: PgTask, path: str, how: str, times: int) -> int:
    """A step, and then its process is killed, or retries itself, as often."""
    self.step("charge", effect, path, "charge")
    append(path, "run")
    if self.meta.get("left", 0) < times:
        self.meta["left"] = self.meta.get("left", 0) + 1
        if how == "retry":
            raise self.retry(countdown=0)
        if how == "exit":
            sys.exit(1)
        os.kill(os.getpid() if how == "child" else os.getppid(), signal.SIGKILL)
        wait_for_file(f"{path}.never")
    return int(self.request.attempt)


@app.task(base=Quick, bind=True, shared=False, max_attempts=2)
def hold(self: PgTask, path: str, release: str) -> int:
    """A step, and then it runs until it is let go."""
    self.step("charge", effect, path, "charge")
    append(f"{path}.pid", str(os.getpid()))
    append(path, "run")
    wait_for_file(release)
    return int(self.request.attempt)


@app.task(base=Quick, bind=True, shared=False)
def sleep(self: PgTask, path: str, seconds: float) -> list[Any]:
    self.step("before", effect, path, "before")
    try:
        self.sleep_for(seconds)
        self.sleep_until(datetime.now(timezone.utc) + timedelta(seconds=seconds))
    except Exception:
        append(path, "swallowed")
    return [self.step("after", effect, path, "after"), self.request.attempt]


@app.task(base=Quick, bind=True, shared=False)
def approve(
    self: PgTask, path: str, timeout: float | None = None, key: str | None = None, count: int = 1
) -> list[Any]:
    self.step("ask", effect, path, "ask")
    decisions = [self.wait_for("approved", timeout, key=key) for _ in range(count)]
    self.step("tell", effect, path, "tell")
    return [*decisions, self.request.attempt]


@app.task(base=Quick, bind=True, shared=False)
def approve_or(self: PgTask, timeout: float) -> Any:
    try:
        return self.wait_for("approved", timeout)
    except SignalTimeout:
        return self.wait_for("late", timeout, default="nobody")


@app.task(base=Quick, bind=True, shared=False)
def insist(self: PgTask, timeout: float) -> Any:
    return self.wait_for("approved", timedelta(seconds=timeout))


@app.task(base=Quick, bind=True, shared=False)
async def approve_async(self: PgTask, path: str) -> list[Any]:
    async def ask() -> str:
        return effect(path, "ask")

    asked = await self.astep("ask", ask)
    await self.asleep_for(0.05)
    decision = await self.await_for("approved")
    return [asked, decision, await self.astep("tell", effect, path, "tell")]


@app.task(base=Quick, bind=True, shared=False)
def swallow(self: PgTask, path: str) -> Any:
    """Catches everything that its wait may raise."""
    try:
        return self.wait_for("approved")
    except BaseException:
        append(path, "caught")
    return self.step("tell", effect, path, "tell")


@app.task(base=Quick, bind=True, shared=False)
def ledger(self: PgTask, table: str, times: int) -> int:
    """A row of the user's own and the memory of it, in one transaction."""
    with psycopg.connect(parse_url(URL)) as connection:
        self.step("book", _book, connection, table, self.request.id, using=connection)
        if self.request.attempt <= times:
            raise ValueError("rolled back")
    return int(self.request.attempt)


def _book(connection: psycopg.Connection[Any], table: str, task_id: str) -> None:
    connection.execute(f"INSERT INTO {table} (task_id) VALUES (%s)", (task_id,))


@app.task(base=Quick, bind=True, shared=False)
def too_much(self: PgTask, path: str, how: str) -> Any:
    append(path, "run")
    return self.step("read", {"large": lambda: "x" * 300_000, "odd": object}[how])


@app.task(base=Quick, bind=True, shared=False, max_attempts=1000)
def endure(self: PgTask) -> dict[str, str]:
    """A step of the user's own rows, a plain one, now and then a sleep; each notes what it got."""
    id = self.request.id
    with psycopg.connect(parse_url(URL)) as connection:
        booked = self.step("book", _enter, connection, id, using=connection)
    _note(id, "book", booked)
    charged = self.step("charge", lambda: uuid4().hex)
    _note(id, "charge", charged)
    if int(id[:1], 16) % 4 == 0:
        self.sleep_for(0.01)
    return {"book": booked, "charge": charged}


def _enter(connection: psycopg.Connection[Any], id: str) -> str:
    token = uuid4().hex
    connection.execute("INSERT INTO public.ledger (task_id, token) VALUES (%s, %s)", (id, token))
    return token


def _note(id: str, step: str, token: str) -> None:
    with psycopg.connect(parse_url(URL)) as connection:
        connection.execute("INSERT INTO public.seen VALUES (%s, %s, %s)", (id, step, token))


@app.task(base=Quick, bind=True, shared=False)
def settle(self: PgTask, table: str, times: int) -> None:
    """A step within the transaction that also has the job's outcome."""
    with psycopg.connect(parse_url(URL)) as connection, self.transaction(connection) as tx:
        with suppress(CannotJoin):
            self.sleep_for(60)
        self.step("book", _book, connection, table, self.request.id)
        if self.request.attempt <= times:
            raise ValueError("rolled back")
        tx.complete(self.request.attempt)
