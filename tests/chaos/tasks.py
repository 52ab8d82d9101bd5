"""The tasks of the chaos runs. What they do goes into a file that only grows: the oracle.

A line is one write with O_APPEND, so that processes do not mix and ``kill -9`` loses none; and it
is independent of the database that is being broken meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from typing import Any

from celery import Celery, Task
from celery.signals import worker_ready

URL = os.environ.get("PGJOBS_TEST_URL")
ORACLE = os.environ.get("PGJOBS_CHAOS_ORACLE", os.devnull)

app = Celery("tests.chaos", broker=URL, backend=URL, set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    task_publish_retry_policy={"max_retries": 100, "interval_max": 0.5},
)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))


@worker_ready.connect
def report_ready(**_: Any) -> None:
    descriptor = os.environ.get("PGJOBS_TEST_READY")
    if descriptor:
        with suppress(BrokenPipeError):  # nobody waits for it
            os.write(int(descriptor), b"ready\n")


def witness(task: Task, event: str) -> None:
    """Say that an attempt has begun, or has ended; and whose it is."""
    _, attempt, *_ = task.request.properties["pgjobs_claim"]
    line = {
        "event": event,
        # A hostile message may give it anything for an id.
        "id": str(task.request.id),
        "attempt": attempt,
        "worker": task.request.hostname,
    }
    descriptor = os.open(ORACLE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


class Witnessed(Task):
    """A task that says when it begins and ends."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        witness(self, "begin")
        returned = super().__call__(*args, **kwargs)
        witness(self, "end")
        return returned


@app.task(base=Witnessed)
def early(seconds: float = 0.0) -> None:
    time.sleep(seconds)


@app.task(base=Witnessed, acks_late=True, reject_on_worker_lost=True)
def late(seconds: float = 0.0) -> None:
    time.sleep(seconds)


@app.task(base=Witnessed)
async def waiting(seconds: float = 0.0) -> None:
    """A coroutine, whichever pool it comes to."""
    await asyncio.sleep(seconds)


@app.task(base=Witnessed, acks_late=True, reject_on_worker_lost=True)
async def waiting_late(seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)


@app.task(base=Witnessed, bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=10)
def retrying(self: Task) -> None:
    """Fails twice before it succeeds."""
    if self.request.retries < 2:
        raise self.retry(exc=ValueError("again"), countdown=0.2)


@app.task(base=Witnessed, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def step() -> None:
    """A step of a chain."""
