"""Run one message as a worker would, in the thread of the caller, and return its outcome.

Celery's own tracer runs the task, with the request that its worker would make of the message: so
its signals, hooks and callbacks are the worker's, and a result goes to the app's result backend.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, NamedTuple
from uuid import uuid4

from celery import Task, _state, signals
from celery.app import trace
from celery.app.task import Context
from celery.exceptions import Reject, Retry
from celery.worker.request import Request
from kombu.message import Message

from ...errors import NotCompleted, UnknownTask
from ...job.decide import End, EndedRun, decide
from ...job.exceptions import LONGEST_DELAY, CancelledByTask, Postponed, Suspension
from ...job.held_claim import CLAIM
from ...job.options import HEADER
from ...job.outcome import Outcome
from ...job.rows import ClaimKey, Fence
from ...job.states import State
from ...tasks.coroutines import prepare_task

#: The key of no database: a PgTask keeps in memory what it would read from its row.
NOWHERE = "pgjobs-testing"
#: The worker's name, to the task.
HOSTNAME = "pgjobs@testing"
#: The claim of a job whose row is not known here.
NO_CLAIM = ClaimKey(0, 0)
#: The words for what becomes of a job, by the state that its row gets.
OUTCOMES = {
    State.COMPLETED: "completed",
    State.DISCARDED: "discarded",
    State.CANCELLED: "cancelled",
    State.RETRYABLE: "retried",
    State.SCHEDULED: "snoozed",
    State.EXECUTING: "replaced",
}


@dataclass(frozen=True)
class Performed:
    """The result of an attempt."""

    #: "completed", "retried", "snoozed", "cancelled" or "discarded"; "replaced" after
    #: ``Task.replace()``; "suspended" where it sleeps, or waits for a signal.
    outcome: str
    #: The task's return value.
    result: Any = None
    #: Its exception.
    error: BaseException | None = None
    #: Seconds until it runs again, retried, snoozed or suspended; None for a wait without an end.
    delay: float | None = None
    #: Why it was cancelled.
    reason: str = ""
    #: The job's meta, as the attempt has left it.
    meta: dict[str, Any] = field(default_factory=dict, compare=False)
    #: The values that its steps have returned by now, in this attempt or before, by their names.
    steps: dict[str, Any] = field(default_factory=dict, compare=False)
    #: The step at which it sleeps, or waits for a signal.
    waits_at: str | None = None
    #: The outcome for its row, where a worker would decide it; of no claim yet.
    row: Outcome | None = field(default=None, compare=False)

    def get(self) -> Any:
        """The task's return value; raises the task's exception, or NotCompleted."""
        if self.outcome == "completed":
            return self.result
        if self.error is not None:
            raise self.error
        raise NotCompleted(f"the job was {self.outcome}{': ' if self.reason else ''}{self.reason}")

    def __repr__(self) -> str:
        names = ("result", "error", "delay", "reason", "waits_at")
        fields = {name: getattr(self, name) for name in names}
        shown = [
            f"{name}={value!r:.200}" for name, value in fields.items() if value not in (None, "")
        ]
        return f"<{' '.join([self.outcome, *shown])}>"


class Attempt(NamedTuple):
    """A message to run, and its attempt."""

    message: Message
    number: int
    #: How often it may run, if the message does not tell.
    most: int | None = None
    #: The claim on its row, and the row's database; None for a job without a row.
    fence: Fence | None = None
    key: str = NOWHERE
    #: Finds what the job remembers of its steps, by the request; None for what any run does.
    find_steps: Callable[[Any], Any] | None = None


def execute(app: Any, attempt: Attempt) -> Performed:
    """Run the task of a message, and return its outcome.

    Raises UnknownTask, and kombu's errors for a body that it cannot, or may not, read.
    """
    message, headers = attempt.message, attempt.message.headers
    task = app.tasks.get(headers["task"])
    if task is None:
        raise UnknownTask(
            f"task {headers['task']!r} is not registered with app {app.main!r}: import its module, "
            "or name it in the app's imports"
        )
    prepare_task(task)
    fence = attempt.fence
    if _has_attempts(task):
        # The row counts its attempts; it does not notice that it has none.
        message.headers = {**headers, "retries": attempt.number - 1}
        fence = fence or Fence(uuid4(), attempt.number)
    if fence is not None:
        published = (headers.get(HEADER) or {}).get("max_attempts")
        most = attempt.most or published or getattr(task, "max_attempts", 1)
        claim = (fence.node.hex, fence.attempt, attempt.key, most)
        message.properties = {**message.properties, CLAIM: claim}
    message.accept = trace.prepare_accept_content(app.conf.accept_content)
    request = Request(message, app=app, task=task, hostname=HOSTNAME)
    if not _has_attempts(task):
        return _run(app, task, request)
    with _remembering(app, task, request.id, attempt.find_steps) as noted:
        performed = _run(app, task, request)
    return replace(performed, **noted())


@contextmanager
def _remembering(
    app: Any, task: Any, task_id: str, find: Callable[[Any], Any] | None
) -> Iterator[Callable[[], dict[str, Any]]]:
    """In this block the task finds its steps; gives what to note of them then."""
    from .stepping import decode_steps, remember  # loads the database driver, as a PgTask has

    memories: list[Any] = []

    def begin(sender: Any, task_id: str, **_: Any) -> None:
        if task_id == of and sender.name == task.name and find is not None and not memories:
            memories.append(find(sender.request))
            remember(sender.request, app, memories[0])

    def noted() -> dict[str, Any]:
        if not memories:
            return {}
        steps = decode_steps(app, memories[0].known())
        return {"steps": steps, "waits_at": memories[0].waits_at()}

    of = task_id
    signals.task_prerun.connect(begin, weak=False)
    try:
        yield noted
    finally:
        signals.task_prerun.disconnect(begin)


def _run(app: Any, task: Any, request: Any) -> Performed:
    *_, embed = request._payload
    fields = {**request.request_dict, "is_eager": False, **(embed or {})}
    noted: dict[str, Any] = {}

    def note(sender: Any, task_id: str, **_: Any) -> None:
        if task_id == request.id and _has_attempts(sender):
            noted.update(sender.meta)

    signals.task_postrun.connect(note, weak=False)
    try:
        with _as_current(app), _stack_protection(app, task):
            tracer = trace.build_tracer(
                task.name, task, loader=app.loader, hostname=HOSTNAME, app=app
            )
            ended = tracer(request.id, fields["args"], fields["kwargs"], fields)
    except Reject as error:  # Celery could not publish its successors
        return Performed("retried" if error.requeue else "discarded", error=error, delay=0.0)
    except SystemExit as error:
        return _left(task, Context(fields), error, noted)
    finally:
        signals.task_postrun.disconnect(note)
    info = ended.info
    if info is None:
        return Performed("completed", result=ended.retval, meta=noted)
    return _decide(info.retval, noted)


def _left(task: Any, context: Any, error: SystemExit, meta: dict[str, Any]) -> Performed:
    """The outcome of SystemExit: it costs a PgTask an attempt, and ends any other task's job."""
    delay = task.next_delay(context, error) if _has_attempts(task) and task.acks_late else None
    if delay is None:
        return Performed("discarded", error=error, meta=meta)
    return Performed("retried", error=error, delay=delay, meta=meta)


def is_ignored(app: Any, headers: Mapping[str, Any]) -> bool:
    """True for a message whose task's result is ignored."""
    declared = headers.get("ignore_result")
    task = app.tasks.get(headers.get("task"))
    return bool(getattr(task, "ignore_result", False) if declared is None else declared)


def _has_attempts(task: Any) -> bool:
    """True for a PgTask. Its module loads the database driver: without it no task is one."""
    attempts = sys.modules.get("pgjobs_celery.tasks.attempts")
    return attempts is not None and isinstance(task, attempts.AttemptedTask)


def _decide(error: BaseException, meta: dict[str, Any]) -> Performed:
    """The outcome of an attempt that ended with an exception: as its row would record it."""
    if isinstance(error, Retry) and not isinstance(error, Postponed):
        # It has published itself again, and only then ended.
        return Performed("retried", error=error.exc, delay=_seconds(error.when), meta=meta)
    if isinstance(error, Reject) and error.requeue:
        return Performed("retried", error=error, delay=0.0, meta=meta)
    row = decide(EndedRun(NO_CLAIM, End.RAISED, error))
    outcome = "completed" if row is None else OUTCOMES[row.state]
    shown = error.exc if isinstance(error, Postponed) else error
    if isinstance(shown, Suspension):
        assert row is not None
        assert row.delay is not None
        delay = row.delay if row.delay < LONGEST_DELAY else None
        return Performed("suspended", delay=delay, meta=meta, row=row)
    return Performed(
        outcome,
        error=shown if outcome in ("retried", "discarded") else None,
        delay=row.delay if row else None,
        reason=error.reason if isinstance(error, CancelledByTask) else "",
        meta=meta,
        row=row,
    )


def _seconds(when: Any) -> float:
    """From now until a retry's ``when``: seconds, or a time."""
    if isinstance(when, datetime):
        zone = None if when.tzinfo is None else timezone.utc
        return max(0.0, (when - datetime.now(zone)).total_seconds())
    return float(when or 0)


@contextmanager
def _as_current(app: Any) -> Iterator[None]:
    """In this block ``celery.current_app`` is the app, as in its worker."""
    before = _state._tls.current_app
    app.set_current()
    try:
        yield
    finally:
        _state._set_current_app(before)


_protecting = threading.Lock()
#: The number of runs that need it now.
_protected = 0


@contextmanager
def _stack_protection(app: Any, task: Any) -> Iterator[None]:
    """Protect the stack, as a worker does for tasks whose own ``__call__`` calls Celery's: the
    request of a direct call would hide the job's. Undone after the last of the runs."""
    global _protected
    if not trace.task_has_custom(task, "__call__"):
        yield
        return
    with _protecting:
        if _protected or not getattr(Task, "_stackprotected", False):
            _protected += 1
            trace._install_stack_protection()
            is_ours = True
        else:
            is_ours = False  # a worker runs in this process
    try:
        yield
    finally:
        with _protecting:
            _protected -= is_ours
            if is_ours and not _protected:
                is_fast = app.use_fast_trace_task
                trace.reset_worker_optimizations(app)
                app.use_fast_trace_task = is_fast
