"""Explain a job that runs, or that has ended: pure functions of the facts."""

from __future__ import annotations

from datetime import datetime, timedelta
from shlex import quote
from typing import Any

from ..db.rows.audit import Doer
from ..db.rows.explain import JobFacts
from ..job.states import State
from .explanation import COMMAND, Explanation, by, error_text, explanation, span, when

#: For how many seconds after the end of its lease a dead node's jobs may wait for another node: one
#: judges others only when its own heartbeats have had no gap for 5 s, and looks every 2 s.
RESCUE_SECONDS = 30.0

#: The texts and types of errors by which the rows tell why they ended.
REVOKED_BEFORE, DUPLICATE, EXPIRED = "revoked before it was published", "a duplicate of", "expired"
UNKNOWN_TASK, WORKER_LOST = "NotRegistered", "WorkerLostError"
#: The type of the error of a job that was cancelled for a newer one.
DROPPED = "QueueFull"

#: The reported states that an earlier attempt may have left; any other the running task reports.
LEFT_BEHIND = ("RETRY", "PENDING", "SUCCESS")


def explain_executing(job: JobFacts, doer: Doer | None = None) -> Explanation:
    """Why it has not ended yet: it runs, or its worker is silent or dead."""
    if not job.has_message:
        return explanation(
            job,
            "awaits_result",
            f"The row of {job.task or 'this task'} has no message that a worker could run: the task"
            " replaced itself by others, the last of which comes under its id, or it runs on"
            " another broker. The row waits for the result.",
        )
    worker = job.attempted_by or job.node or "its worker"
    details: dict[str, Any] = {
        "worker": worker, "attempted_at": job.attempted_at, "heartbeat_at": job.heartbeat_at,
    }  # fmt: skip
    if job.heartbeat_at is None or job.lease is None:
        return _held_by_dead(job, worker, f"{worker} has no node row any more", None)
    until = _end_of_lease(job.heartbeat_at, job.lease)
    silence = job.now - job.heartbeat_at
    if until <= job.now:
        return _held_by_dead(job, worker, f"its last heartbeat came {span(silence)} ago", until)
    since = f" since {when(job.attempted_at, job.now)}" if job.attempted_at else ""
    attempt = f"attempt {job.attempt:,} of {job.max_attempts:,}"
    details |= {"until": until, "cancel_requested_at": job.cancel_requested_at}
    if silence > timedelta(seconds=job.lease / 2):
        return explanation(
            job,
            "worker_silent",
            f"{worker} has the job{since}, {attempt}, but sent its last heartbeat {span(silence)}"
            f" ago. If it stays silent, the other workers take the job from it after"
            f" {when(until, job.now)}; {_fate(job)}.",
            **details,
        )
    told = ""
    if job.cancel_requested_at is not None:
        why = f" ({job.cancel_reason})" if job.cancel_reason else ""
        told = f" It was told to stop{by(doer)}{why} at {when(job.cancel_requested_at, job.now)}."
        details["cancelled_by"] = doer and doer.actor
    has_reported = job.reported_state not in (None, *LEFT_BEHIND)
    runs = "It runs" if has_reported else "It runs or is about to"
    return explanation(
        job,
        "running",
        f"{runs}: {worker} has had it{since}, {attempt}, and sent its last heartbeat"
        f" {span(silence)} ago.{told}",
        **details,
    )


def _held_by_dead(job: JobFacts, worker: str, evidence: str, until: datetime | None) -> Explanation:
    is_missed = until is not None and job.now - until > timedelta(seconds=RESCUE_SECONDS)
    if job.live_nodes == 0:
        who = "No live worker exists that could take it: start one, or run the maintenance."
    elif is_missed:
        who = f"Others take such a job within {span(RESCUE_SECONDS)}: no live worker does the"
        who += " maintenance, or all have just started."
    else:
        who = "A live worker takes it within seconds."
    kind = "no_maintenance" if is_missed or job.live_nodes == 0 else "held_by_dead_worker"
    held = f" It held the job until {when(until, job.now)}." if until is not None else ""
    return explanation(
        job,
        kind,
        f"{worker}, which has the job, is dead: {evidence}.{held} {who} The job had begun attempt"
        f" {job.attempt:,} of {job.max_attempts:,}; {_fate(job)}.",
        f"{COMMAND} maintain" if kind == "no_maintenance" else None,
        worker=worker,
        attempted_at=job.attempted_at,
        heartbeat_at=job.heartbeat_at,
        until=until,
        live_nodes=job.live_nodes,
    )


def _end_of_lease(heartbeat_at: datetime, lease: float) -> datetime:
    try:
        return heartbeat_at + timedelta(seconds=lease)
    except OverflowError:
        return heartbeat_at  # of a row that was written by hand


def _fate(job: JobFacts) -> str:
    if not job.acks_late:
        return "it is then discarded, because it was acknowledged when it began and may have run"
    if job.cancel_requested_at is not None or job.superseded_by is not None:
        return "it is then cancelled"
    if job.attempt >= job.max_attempts:
        return "it is then discarded, because this was its last attempt"
    return "it then goes back in line"


def explain_ended(job: JobFacts, doer: Doer | None = None) -> Explanation:
    """How it ended."""
    if job.state is State.COMPLETED:
        return explanation(
            job,
            "completed",
            f"It has succeeded{_by(job)} at {_end(job)}, in attempt {job.attempt:,} of"
            f" {job.max_attempts:,}.",
            worker=job.attempted_by,
            finished_at=job.finished_at,
        )
    if job.state is State.DISCARDED:
        return _discarded(job)
    return _cancelled(job, doer)


def _discarded(job: JobFacts) -> Explanation:
    error = error_text(job.error) or "no error is recorded"
    type_ = job.error.get("type")
    attempt = f"in attempt {job.attempt:,} of {job.max_attempts:,}"
    if type_ == UNKNOWN_TASK:
        kind = "unknown_task"
        text = f"{job.attempted_by or 'The worker'} does not know the task {job.task}"
        text += f", and set the job aside at {_end(job)}: {error}. A worker whose app registers"
        text += " the task must consume the queue before the job is put in line again."
    elif type_ == WORKER_LOST:
        kind = "worker_lost"
        text = f"It failed for good at {_end(job)}, {attempt}, because its worker died: {error}."
    else:
        kind = "discarded"
        text = f"It failed for good{_by(job)} at {_end(job)}, {attempt}: {error}."
    return explanation(
        job,
        kind,
        text,
        _again(job),
        worker=job.attempted_by,
        finished_at=job.finished_at,
        error=job.error,
    )


def _cancelled(job: JobFacts, doer: Doer | None) -> Explanation:
    message = str(job.error.get("message") or "")
    reason = job.cancel_reason or message or None
    details: dict[str, Any] = {
        "finished_at": job.finished_at, "reason": reason, "cancelled_by": doer and doer.actor,
    }  # fmt: skip
    if message == REVOKED_BEFORE:
        return explanation(
            job,
            "revoked_before_publishing",
            f"Its id was revoked{by(doer)} at"
            f" {when(job.cancel_requested_at or job.inserted_at, job.now)},"
            " before a job was published under it; such a job never starts. If it must run,"
            " delete the row and publish it again.",
            f"{COMMAND} delete {quote(job.task_id)}",
            **details,
        )
    if (other := _other(job, message, details)) is not None:
        return other
    # The queue's own limit says more than the one word that Celery's expiry is.
    if job.cancel_reason is None and (message == EXPIRED or message.startswith(f"{EXPIRED}: its")):
        limit = f" It had to begin by {when(job.expires_at, job.now)}." if job.expires_at else ""
        return explanation(
            job,
            "expired",
            f"It expired before a worker began it, and was cancelled at {_end(job)}.{limit}",
            _again(job),
            expires_at=job.expires_at,
            **details,
        )
    if job.error.get("type") == DROPPED and job.cancel_reason is None:
        whose = f" of {doer.actor}" if doer else ""
        return explanation(
            job,
            "dropped",
            f"Queue {job.queue} was full at {_end(job)}, and this job, which had waited longest,"
            f" was cancelled for a newer one{whose}: {message}. Start workers for the queue, give"
            " it another max_depth, or have its publishers wait or be refused (on_full).",
            _again(job),
            **details,
        )
    why = f": {reason}" if reason and reason != "revoked" else ", without a reason"
    ran = f", in attempt {job.attempt:,}{_by(job)}" if job.attempt else ", before it had begun"
    return explanation(
        job,
        "cancelled",
        f"It was cancelled{by(doer)} at {_end(job)}{ran}{why}.",
        _again(job),
        worker=job.attempted_by,
        **details,
    )


def _other(job: JobFacts, message: str, details: dict[str, Any]) -> Explanation | None:
    """A job that gave way to another one; None for any other."""
    if job.superseded_by is None:
        return None
    details["other"] = job.superseded_by
    if message.startswith(DUPLICATE):
        kind = "duplicate"
        text = f"It never stood in line: it is a duplicate of job {job.superseded_by}, which"
        text += " had its unique key, or its idempotency key, when this one was published"
        text += f" at {_end(job)}."
    elif message.startswith("superseded by"):
        kind = "superseded"
        text = f"Job {job.superseded_by} took over its unique key, and stands for it: this one"
        text += f" was cancelled at {_end(job)} when it was about to come back into line."
    else:
        return None
    return explanation(job, kind, text, f"{COMMAND} explain {quote(job.superseded_by)}", **details)


def _by(job: JobFacts) -> str:
    return f" on {job.attempted_by}" if job.attempted_by else ""


def _end(job: JobFacts) -> str:
    return when(job.finished_at or job.now, job.now)


def _again(job: JobFacts) -> str | None:
    return f"{COMMAND} retry {quote(job.task_id)}" if job.has_message else None
