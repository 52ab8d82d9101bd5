"""Tasks that book a row and publish a follower: in one transaction with their outcome, or not."""

from __future__ import annotations

import json
import os
import random
import time
from contextlib import suppress
from typing import Any

import psycopg
from celery import Celery
from celery.signals import worker_ready

from pgjobs_celery import PgTask, using
from pgjobs_celery.db.dsn import parse_url

URL = os.environ.get("PGJOBS_TEST_URL")
#: Where the tasks' own connections go: through a proxy that cuts them off.
LEDGER_URL = os.environ.get("PGJOBS_CHAOS_LEDGER", URL)

app = Celery(
    "tests.chaos.effects", broker=URL, backend=URL, task_cls="pgjobs_celery:PgTask",
    set_as_current=False,
)  # fmt: skip
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    task_publish_retry_policy={"max_retries": 100, "interval_max": 0.5},
)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))

TABLE = "CREATE TABLE ledger (job text, attempt integer)"


@worker_ready.connect
def report_ready(**_: Any) -> None:
    descriptor = os.environ.get("PGJOBS_TEST_READY")
    if descriptor:
        with suppress(BrokenPipeError):  # nobody waits for it
            os.write(int(descriptor), b"ready\n")


class Stubborn(PgTask):
    abstract = True
    max_attempts = 1000

    def backoff(self, job: Any) -> float:
        return random.uniform(0.05, 0.5)


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(parse_url(str(LEDGER_URL)), connect_timeout=5)


def book(task: PgTask, connection: psycopg.Connection[Any]) -> None:
    values = [task.request.id, task.request.attempt]
    connection.execute("INSERT INTO ledger VALUES (%s, %s)", values)
    linger()
    follow.delay()
    linger()


def linger() -> None:
    """Give the faults a moment."""
    time.sleep(random.choice([0, 0, 0.005, 0.02]))


@app.task(name="effects.follow", base=Stubborn, ignore_result=True)
def follow() -> None: ...


@app.task(name="effects.exact", base=Stubborn, bind=True)
def exact(self: PgTask) -> None:
    with connect() as connection:
        with self.transaction(connection) as tx:
            book(self, connection)
            tx.complete(self.request.attempt)
        linger()


@app.task(name="effects.plain", base=Stubborn, bind=True)
def plain(self: PgTask) -> int:
    """The control: the same rows in one transaction, and the outcome beside it."""
    with connect() as connection:
        with using(connection):
            book(self, connection)
        connection.commit()
        linger()
    return int(self.request.attempt)
