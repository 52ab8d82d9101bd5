"""The app of the tests in which a worker's main process does not listen for a while.

Each task writes down when it begins and ends, with its name, and waits in between until it may end.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded

from pgjobs_celery import PgTask

from .tasks import URL, append, wait_for_file

app = Celery("stalls", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))


class Again(PgTask):
    """Its next attempt follows soon."""

    abstract = True

    def backoff(self, job: Any) -> float:
        return 0.05


def work(name: str, path: str, release: str, size: int = 0) -> str:
    append(path, f"begin {name}")
    wait_for_file(release)
    append(path, f"end {name}")
    return name.ljust(size)


@app.task
def early(path: str, release: str, size: int = 0) -> str:
    return work("early", path, release, size)


@app.task(acks_late=True)
def late(path: str, release: str, size: int = 0) -> str:
    return work("late", path, release, size)


@app.task(ignore_result=True)
def ignored(path: str, release: str, size: int = 0) -> str:
    return work("ignored", path, release, size)


@app.task(base=Again)
def pgtask(path: str, release: str, size: int = 0) -> str:
    return work("pgtask", path, release, size)


@app.task(acks_late=True, acks_on_failure_or_timeout=False)
def unacknowledged(path: str, release: str, size: int = 0) -> str:
    return work("unacknowledged", path, release, size)


@app.task(soft_time_limit=0.5)
def tidy(path: str, release: str) -> str:
    """Is told that its time is over, and takes some more to tidy up."""
    append(path, "begin tidy")
    try:
        wait_for_file(path + "-never")
    except SoftTimeLimitExceeded:
        append(path, "told")
        wait_for_file(release)
    return "tidy"


@app.task(acks_late=True)
def first_step(path: str, release: str, size: int = 0) -> str:
    return work("first_step", path, release, size)


@app.task(base=Again)
def leaf(number: int, path: str) -> None:
    append(path, f"leaf {number}")


@app.task
def spread(path: str, release: str) -> str:
    """Publishes many when it is released: what has ended before is written first."""
    append(path, "begin spread")
    wait_for_file(release)
    append(path, "end spread")
    leaf.enqueue_many((number, path) for number in range(3))
    return "spread"


@app.task(rate_limit="1/h")
def rare() -> None:
    """Its second run waits in the worker, outside of the pool."""


def fail(name: str, path: str, release: str, size: int = 0) -> None:
    append(path, f"begin {name}")
    wait_for_file(release)
    append(path, f"end {name}")
    raise ValueError(name.ljust(size, "é"))


@app.task(acks_late=True)
def failing(path: str, release: str, size: int = 0) -> None:
    fail("failing", path, release, size)


@app.task(base=Again, max_attempts=2)
def failing_pgtask(path: str, release: str, size: int = 0) -> None:
    fail("failing_pgtask", path, release, size)


@app.task(acks_late=True)
def leaving(path: str, release: str, size: int = 0) -> None:
    append(path, "begin leaving")
    wait_for_file(release)
    append(path, "end leaving")
    sys.exit("leaving".ljust(size, "é"))


@app.task
def next_step(before: str, path: str) -> str:
    append(path, "next step")
    return before.strip()


@app.task
def errback(request: Any, error: Any, traceback: Any, path: str) -> None:
    append(path, "errback")


#: All kinds of tasks that a time limit is judged for.
KINDS: list[Task] = [early, late, ignored, pgtask, unacknowledged]
