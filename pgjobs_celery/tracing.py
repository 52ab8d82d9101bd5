"""Carry a task's result from the process that ran it to the one that writes the rows.

A result that each pool child commits by itself costs a commit per task: 1,500 tasks a second where
ignored results make 3,000 (prefork -c 2). So the child hands a small result of a task that
succeeded to the worker's main process together with the news that it did, and the batch that
finishes the rows writes it: one write after the claim, whatever is kept of the result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import reports
from .outcome import Result

#: Results above this size, in bytes, are written where the task ran: the worker's main process must
#: not be held up by one task's megabytes. A child of a prefork pool writes smaller ones itself, see
#: :data:`pgjobs_celery.reports.LIMIT`.
LIMIT = 64 * 1024

_local = threading.local()


class Summary(str):
    """What Celery's pool returns of a task that succeeded, its result's repr; and the result.

    None for a result that could not be written: somebody else has the job by now.
    """

    result: Result | None

    def __new__(cls, text: str, result: Result | None) -> Summary:
        self = super().__new__(cls, text)
        self.result = result
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Summary, (str(self), self.result)


def trace_job(trace: Callable[..., Any], name: str, task_id: str, *args: Any) -> Any:
    """Run a task through Celery's ``trace`` function, in the pool, and return its result along."""
    _local.task_id, _local.result, _local.is_lost = task_id, None, False
    reports.begin()
    try:
        failed, returned, runtime = trace(name, task_id, *args)
        reports.end()
        if not failed:
            returned = returned and reports.fit(returned, _local.result)
            if _local.result is not None or _local.is_lost:
                returned = Summary(returned or "", _local.result)
        else:
            returned = reports.fit_failure(returned)
            if _local.is_lost:
                returned.is_lost = True
        return failed, returned, runtime
    finally:
        reports.end()
        _local.task_id = _local.result = None


@contextmanager
def returned(task_id: str) -> Iterator[None]:
    """In this block, SUCCESS is the task's end, and not what it says of itself on the way."""
    decide(task_id)
    _local.returned = task_id
    try:
        yield
    finally:
        _local.returned = None


def decide(task_id: str) -> None:
    """What becomes of this task is decided: its soft time limit does not change it any more."""
    if getattr(_local, "task_id", None) == task_id:
        reports.end()


def hand_over(result: Result) -> bool:
    """Leave what the task in this thread has returned to the worker; False if it won't do."""
    if getattr(_local, "task_id", None) != result.task_id:
        return False
    if getattr(_local, "returned", None) != result.task_id:
        return False
    if result.result is not None and len(result.result) > LIMIT:
        return False
    if reports.is_too_long(result):
        return False
    _local.result = result
    return True


def lose_claim(task_id: str) -> bool:
    """Leave it to the worker to say that the job is somebody else's by now; False if it won't."""
    if getattr(_local, "task_id", None) != task_id:
        return False
    _local.is_lost = True
    return True


class TracingPool:
    """A pool, to Celery's ``Request``, that calls :func:`trace_job` around what it is given."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def apply_async(self, trace: Callable[..., Any], args: tuple[Any, ...], **options: Any) -> Any:
        """As the pool's own."""
        return self._pool.apply_async(trace_job, args=(trace, *args), **options)
