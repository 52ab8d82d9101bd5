"""Carry a task's result from the process that ran it to the one that writes the rows.

A result that each pool child commits by itself costs a commit per task: 1,500 tasks a second where
ignored results make 3,000 (prefork -c 2). So the child hands a small result of a task that
succeeded to the worker's main process together with the news that it did, and the batch that
finishes the rows writes it: one write after the claim, whether the result is kept or not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from billiard import common
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.signals import task_internal_error
from celery.utils.serialization import get_pickleable_etype, get_pickleable_exception

from ..job.outcome import Result
from ..printable import guarded
from . import reports

logger = guarded(logging.getLogger(__name__))

#: Since billiard 4.3: True in a child that was told to end.
terminate_handler_fired = getattr(common, "terminate_handler_fired", lambda: False)

#: Results above this size, in bytes, are written where the task ran: the worker's main process must
#: not be held up by one task's megabytes. A child of a prefork pool writes smaller ones itself, see
#: :data:`pgjobs_celery.results.reports.LIMIT`.
LIMIT = 64 * 1024


class _Run:
    """A task that runs, as far as it is known until the pool has its report."""

    def __init__(self, task_id: str | None) -> None:
        self.task_id = task_id
        self.result: Result | None = None
        #: Writes the result, should this process exit instead of reporting it.
        self.write: Callable[[], Any] | None = None
        #: The id while its SUCCESS is being stored.
        self.returned: str | None = None
        self.is_lost = self.has_returned = self.has_failed = self.is_written = False
        #: The task's own transaction has completed the job.
        self.is_committed = False
        self.internal_error: Exception | None = None


_NOTHING = _Run(None)
# Of the context: a thread has one of its own, and so has each greenlet or coroutine of a thread.
_current: ContextVar[_Run] = ContextVar("pgjobs_run", default=_NOTHING)


class Summary(str):
    """A succeeded task's report in Celery's pool, its result's repr; with the result itself.

    ``result`` is None if it could not be written because another worker has the job.
    """

    result: Result | None

    def __new__(cls, text: str, result: Result | None) -> Summary:
        self = super().__new__(cls, text)
        self.result = result
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Summary, (str(self), self.result)


class Committed(str):
    """A succeeded task's report, whose own transaction has completed the job."""

    __slots__ = ()


def trace_job(trace: Callable[..., Any], name: str, task_id: str, *args: Any) -> Any:
    """Run a task through Celery's ``trace`` function, in the pool, and return its result along."""
    return _trace(Exception, trace, name, task_id, *args)


def trace_apart(trace: Callable[..., Any], name: str, task_id: str, *args: Any) -> Any:
    """As :func:`trace_job`, in a thread or greenlet: nothing ends with it but the task."""
    return _trace((Exception, SystemExit, KeyboardInterrupt), trace, name, task_id, *args)


def _trace(caught: Any, trace: Callable[..., Any], name: str, task_id: str, *args: Any) -> Any:
    run = _Run(task_id)
    before = _current.set(run)
    reports.begin()
    try:
        try:
            failed, returned, runtime = trace(name, task_id, *args)
        except BaseException as error:
            if not isinstance(error, caught) or terminate_handler_fired():
                # The process leaves (sys.exit in a signal's receiver, for one), and with it the
                # task's result: no other process will write that.
                if run.write is not None:
                    run.write()
                raise
            failed, returned, runtime = _end(run, name, task_id, error)
        reports.end()
        if not failed and run.internal_error is not None:
            # Celery answers neither that it failed nor what it returned: it did not begin.
            failed, returned = 1, failure(run.internal_error)
            returned.is_known = False
        if run.is_committed:
            return 0, _committed(name, task_id, failed, returned), runtime
        if not failed:
            returned = reports.fit(returned, run.result) if returned else returned
            if run.result is not None or run.is_lost:
                returned = Summary(returned or "", run.result)
        else:
            returned = reports.fit_failure(returned)
            if run.is_lost:
                returned.is_lost = True
        return failed, returned, runtime
    finally:
        reports.end()
        run.task_id = None
        _current.reset(before)


def _end(run: _Run, name: str, task_id: str, error: BaseException) -> tuple[int, Any, float]:
    """The end of a task of which Celery's tracer has let an exception out.

    Some of what surrounds a task's body may raise for Celery: ``on_failure`` since 5.7, ``Reject``
    in any hook. A pool of threads or greenlets would drop it, and the worker would wait for ever.
    """
    if run.has_returned or run.is_committed:
        # Its result is stored, and its successors are published.
        logger.error(
            "task %s[%s] had returned when what follows it raised %r", name, task_id, error,
            exc_info=error,
        )  # fmt: skip
        return 0, "", 0.0
    einfo = failure(error)
    einfo.is_known = run.has_failed
    return 1, einfo, 0.0


def _committed(name: str, task_id: str, failed: int, returned: Any) -> Committed:
    """The report of a task whose own transaction has completed its job, whatever came then."""
    if failed:
        logger.error(
            "task %s[%s] had completed its job when what follows it raised %r",
            name, task_id, getattr(returned, "exception", returned),
        )  # fmt: skip
        returned = ""
    return Committed(reports.fit(returned or "", None))


def failure(error: BaseException) -> ExceptionInfo:
    """An exception as Celery has it, so that it can go through a pipe and come out of it."""
    traceback = error.__traceback__
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        error = WorkerLostError(repr(error))  # as Celery says of them in a thread
    kept = get_pickleable_exception(error)
    if kept.__traceback__ is None:
        kept.__traceback__ = traceback
    return ExceptionInfo((get_pickleable_etype(type(error)), kept, kept.__traceback__))


def note_failed(task_id: str) -> None:
    """Note that the failure of the task in this thread was stored, and its errbacks were called."""
    if _current.get().task_id == task_id:
        _current.get().has_failed = True


def has_failed(task_id: str) -> bool:
    """True if that was noted before, or must not be any more: the job is completed."""
    run = _current.get()
    return run.task_id == task_id and (run.has_failed or run.is_committed)


def _note_internal_error(task_id: str, exception: Exception, **_: Any) -> None:
    if _current.get().task_id == task_id:
        _current.get().internal_error = exception


task_internal_error.connect(_note_internal_error, dispatch_uid="pgjobs-tracing")


@contextmanager
def returned(task_id: str) -> Iterator[None]:
    """In this block, SUCCESS is the task's end, not a state that the task reports itself."""
    decide(task_id)
    _current.get().returned = task_id
    try:
        yield
        if _current.get().task_id == task_id:
            _current.get().has_returned = True
    finally:
        _current.get().returned = None


def decide(task_id: str) -> None:
    """Note that this task's outcome is decided: its soft time limit no longer changes it."""
    if _current.get().task_id == task_id:
        reports.end()


def undecide(task_id: str) -> None:
    """Note that it is open again: what was to decide it was rolled back."""
    if _current.get().task_id == task_id:
        reports.begin()


def note_committed(task_id: str) -> None:
    """Note that the own transaction of the task that runs here has completed its job."""
    if _current.get().task_id == task_id:
        _current.get().is_committed = True


def hand_over(result: Result, write: Callable[[], Any] | None = None) -> bool:
    """Leave the result of the task in this thread to the worker; False if that is not possible.

    ``write`` writes it, should this process exit instead.
    """
    if _current.get().task_id != result.task_id:
        return False
    if _current.get().returned != result.task_id:
        return False
    if result.result is not None and len(result.result) > LIMIT:
        return False
    if reports.is_too_long(result):
        return False
    run = _current.get()
    run.result, run.write = result, write
    return True


def note_written(task_id: str) -> None:
    """Note that the end of the task in this thread stands in its row."""
    if _current.get().task_id == task_id:
        _current.get().is_written = True


def lose_claim(task_id: str) -> bool:
    """Leave it to the worker to report that another worker has the job; False if it cannot.

    The job is not lost if this thread has already written its outcome.
    """
    if _current.get().task_id != task_id:
        return False
    _current.get().is_lost = not _current.get().is_written
    return True


class TracingPool:
    """A pool for Celery's ``Request`` that runs tasks through our tracer."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def apply_async(self, trace: Callable[..., Any], args: tuple[Any, ...], **options: Any) -> Any:
        """As the pool's own."""
        is_apart = not getattr(self._pool, "signal_safe", True)
        run = trace_apart if is_apart else trace_job
        return self._pool.apply_async(run, args=(trace, *args), **options)
