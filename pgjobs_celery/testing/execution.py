"""Run one captured job as a worker would, in this thread.

Its message is decoded with what the app accepts, and Celery's own tracer runs the task: request,
signals, results, links, chains and chords, retries. What a PgTask decides becomes a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from celery import _state
from celery.app.task import Context
from celery.app.trace import _install_stack_protection, build_tracer, task_has_custom
from celery.exceptions import NotRegistered
from celery.utils.nodenames import gethostname
from kombu.compression import decompress
from kombu.serialization import loads, prepare_accept_content

from ..ending import CancelledByTask, Snooze
from ..states import State
from .capture import Enqueued, Inbox

#: What the request says of the worker.
HOSTNAME = f"testing@{gethostname()}"


@dataclass(frozen=True)
class Run:
    """What came of one run of a job."""

    job: Enqueued
    #: completed; retryable or scheduled (snoozed), to run again after ``delay``; cancelled;
    #: discarded, failed for good; available, where the task has rejected it and wants it again.
    state: State
    #: What the task returned.
    value: Any = None
    #: What it raised, or why it is to be tried again.
    error: BaseException | None = None
    #: In how many seconds it runs again.
    delay: float | None = None
    #: Why it was cancelled or discarded, in the task's words.
    reason: str = ""


def run_job(app: Any, job: Enqueued) -> Run:
    """Run a job; what it publishes, its own retry too, goes where the app's messages go.

    Raises NotRegistered for a task that this app does not have, and ContentDisallowed for a message
    that its workers would refuse.
    """
    if job.task not in app.tasks:
        raise NotRegistered(job.task)
    task = app.tasks[job.task]
    request = make_request(app, job)
    if job.expires is not None and job.expires <= datetime.now(timezone.utc):
        return _expire(task, job, request)
    if task_has_custom(task, "__call__"):
        # As workers do: a __call__ that calls Task's would hide the request from the task.
        _install_stack_protection()
    tracer = build_tracer(task.name, task, hostname=HOSTNAME, app=app)
    with _as_current(app):
        returned = tracer(job.task_id, request["args"], request["kwargs"], request)
    return _to_run(job, returned)


def run_captured(app: Any, inbox: Inbox, job: Enqueued) -> Run | None:
    """Run a job that waits in an inbox; None if it waits no more."""
    taken = inbox.take(job)
    if taken is None:
        return None
    try:
        run = run_job(app, taken)
    except BaseException:
        inbox.update(taken, state=State.DISCARDED)
        raise
    again = inbox.get(taken.task_id)
    is_published_again = again is not None and again.number != taken.number
    # What its retry stands for is over; a task that was rejected goes back itself.
    is_over = is_published_again and not run.state.is_final
    inbox.update(taken, state=State.COMPLETED if is_over else run.state)
    return run


def make_request(app: Any, job: Enqueued) -> dict[str, Any]:
    """A worker's request for a job; its arguments are decoded anew, for a task may change them."""
    accept = prepare_accept_content(app.conf.accept_content)
    compression = job.headers.get("compression")
    body = decompress(job.body, compression) if compression else job.body
    args, kwargs, embed = loads(body, job.content_type, job.content_encoding, accept=accept)
    return {
        **job.headers,
        "properties": job.properties,
        "reply_to": job.properties.get("reply_to"),
        "correlation_id": job.properties.get("correlation_id"),
        "hostname": HOSTNAME,
        "delivery_info": {
            "exchange": job.exchange,
            "routing_key": job.routing_key,
            "priority": job.properties.get("priority"),
            "redelivered": False,
        },
        "args": args,
        "kwargs": kwargs,
        "is_eager": False,
        **(embed or {}),
    }


def _to_run(job: Enqueued, returned: Any) -> Run:
    info = returned.info
    if info is None:
        return Run(job, State.COMPLETED, value=returned.retval)
    error = info.retval
    if info.state == "RETRY":
        delay = _seconds(error.when)
        if isinstance(error.exc, Snooze):
            return Run(job, State.SCHEDULED, error=error.exc, delay=delay)
        return Run(job, State.RETRYABLE, error=error.exc or error, delay=delay)
    if isinstance(error, CancelledByTask):
        return Run(job, State.CANCELLED, error=error, reason=error.reason)
    if info.state == "IGNORED":
        return Run(job, State.COMPLETED, error=error)
    if info.state == "REJECTED" and error.requeue:
        return Run(job, State.AVAILABLE, error=error)
    return Run(job, State.DISCARDED, error=error, reason=getattr(error, "reason", "") or "")


def _seconds(when: Any) -> float:
    if isinstance(when, datetime):
        when = (when - datetime.now(when.tzinfo)).total_seconds()
    return max(0.0, float(when or 0))


def _expire(task: Any, job: Enqueued, request: dict[str, Any]) -> Run:
    ignored = request.get("ignore_result")
    is_stored = not (task.ignore_result if ignored is None else ignored)
    context = Context(request)
    task.backend.mark_as_revoked(job.task_id, "expired", request=context, store_result=is_stored)
    return Run(job, State.CANCELLED, reason="expired")


@contextmanager
def _as_current(app: Any) -> Iterator[None]:
    """In this block ``celery.current_app`` is the app, as in its worker."""
    before = _state._tls.current_app
    app.set_current()
    try:
        yield
    finally:
        _state._set_current_app(before)
