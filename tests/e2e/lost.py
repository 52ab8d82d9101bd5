"""An app whose tasks are lost with their process once their chain's next step was published."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from celery import Celery, Task

from pgjobs_celery import PgTask

from .tasks import URL, append, report_ready, wait_for_file  # noqa: F401 - it tells it is ready

app = Celery("tests.lost", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))


class Lost:
    """Kills its process, the first time, when what follows has run."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        first, following = args
        if append(first, os.getpid()) == 1:
            wait_for_file(following)
            os.kill(os.getpid(), signal.SIGKILL)


class LostTask(Lost, Task):  # type: ignore[misc]
    abstract = True


class LostPgTask(Lost, PgTask):
    abstract = True

    def backoff(self, job: Any) -> float:
        return 0.05


def work(path: str, following: str) -> str:
    return "done"


def work_and_retry(self: Task, path: str, following: str) -> str:
    """As ``work``, but its second attempt retries before the third returns."""
    runs = f"{path}.runs"
    if append(runs, os.getpid()) == 2:
        raise self.retry(countdown=0.05)
    return "done"


in_attempts = app.task(work, base=LostPgTask, name="in_attempts", shared=False)
ignored = app.task(work, base=LostPgTask, name="ignored", shared=False, ignore_result=True)
retrying = app.task(
    work_and_retry, base=LostPgTask, name="retrying", shared=False, ignore_result=True, bind=True
)
rejected = app.task(
    work, base=LostTask, name="rejected", shared=False, acks_late=True, reject_on_worker_lost=True,
    ignore_result=True,
)  # fmt: skip
sent_again = app.task(
    work, base=LostTask, name="sent_again", shared=False, retry_on_worker_lost=True, max_retries=2,
    default_retry_delay=0.1, ignore_result=True,
)  # fmt: skip


@app.task
def record(path: str) -> int:
    return append(path, os.getpid())


@app.task
def total(numbers: list[int], path: str) -> int:
    append(path, sum(numbers))
    return sum(numbers)


@app.task(bind=True, ignore_result=True, max_retries=3)
def retry_twice(self: Task, base: str = "") -> str:
    """Retries itself for a reason, and then without one."""
    if self.request.retries == 0:
        raise self.retry(exc=KeyError("why"), countdown=0)
    if self.request.retries == 1:
        raise self.retry(countdown=0)
    return "never seen"


@app.task(base=PgTask, bind=True, ignore_result=True, max_attempts=5)
def pg_retry_twice(self: PgTask) -> str:
    if self.request.attempt == 1:
        raise self.retry(exc=KeyError("why"), countdown=0)
    if self.request.attempt == 2:
        raise self.retry(countdown=0)
    return "never seen"


class LostInErrback(PgTask):
    """Is lost with its process when its failure is stored, and its errback is not called."""

    abstract = True
    max_attempts = 3

    def backoff(self, job: Any) -> float:
        return 0.05


def lose_in_errback(self: Task, path: str) -> None:
    backend = self.backend

    def die(*args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    # Celery's step between the two.
    backend._call_task_errbacks = die
    append(path, os.getpid())
    raise KeyError("not tried again")


lost_in_errback = [
    app.task(
        lose_in_errback,
        base=LostInErrback,
        name="in_errback",
        shared=False,
        bind=True,
        throws=(KeyError,),
    ),
    app.task(
        lose_in_errback, name="in_errback_late", shared=False, bind=True, acks_late=True,
        reject_on_worker_lost=True,
    ),
    app.task(
        lose_in_errback,
        name="in_errback_sent_again",
        shared=False,
        bind=True,
        retry_on_worker_lost=True,
    ),
    app.task(lose_in_errback, name="in_errback_early", shared=False, bind=True),
]  # fmt: skip
