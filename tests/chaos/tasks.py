"""The tasks of the chaos runs. What they do goes into a file that only grows: the oracle.

A line is one write with O_APPEND, so that processes do not mix and ``kill -9`` loses none; it is
independent of the database that is being broken meanwhile.
"""

from __future__ import annotations

import json
import os
import time
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
        os.write(int(descriptor), b"ready\n")


def witness(task: Task) -> None:
    """Say that the task has begun."""
    line = json.dumps({"id": task.request.id, "pid": os.getpid(), "at": time.time()}) + "\n"
    descriptor = os.open(ORACLE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@app.task(bind=True)
def early(self: Task, seconds: float = 0.0) -> None:
    witness(self)
    time.sleep(seconds)


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def late(self: Task, seconds: float = 0.0) -> None:
    witness(self)
    time.sleep(seconds)


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=10)
def retrying(self: Task) -> None:
    """Fails twice before it succeeds."""
    witness(self)
    if self.request.retries < 2:
        raise self.retry(exc=ValueError("again"), countdown=0.2)


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def step(self: Task) -> None:
    """A step of a chain."""
    witness(self)
