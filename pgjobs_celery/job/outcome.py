"""The outcome of a claimed job, and the entry for its errors; nothing here writes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Protocol

from .fingerprint import cause_of, own_frame
from .states import State

#: How much of a message or traceback goes into the row, in characters.
MESSAGE_LIMIT, TRACEBACK_LIMIT = 4_000, 40_000


class Claimed(Protocol):
    """A claim, as far as an outcome names it."""

    @property
    def id(self) -> int:
        """The number of the row."""

    @property
    def attempt(self) -> int:
        """The attempt that the claim is for."""


class Result(NamedTuple):
    """The encoded result of a task's attempt."""

    task_id: str
    result: bytes | None
    #: The content type of ``result``.
    result_type: str | None
    traceback: str | None
    #: The tasks it started, as JSON.
    children: str | None
    #: The entry for ``errors``, as JSON.
    error: str | None


class Outcome(NamedTuple):
    """The change to write for one claim, fenced by (id, attempt) and the node."""

    id: int
    attempt: int
    state: State
    #: An entry for the row's ``errors``, as JSON; None without an error.
    error: str | None = None
    #: False gives the attempt back: the job never started, or was snoozed.
    counts: bool = True
    #: Seconds until it runs again, if it must wait for that.
    delay: float | None = None
    #: False if only the row records the failure, because the result is ignored and must read as
    #: before. See :func:`celery_state`.
    is_stored: bool = True
    #: False if the process that ran the task may have written its outcome first.
    is_sole: bool = True
    #: The task's result, where the process that ran it left this to be written with the rest.
    result: Result | None = None
    #: The task's id, if a program may wait for it to finish.
    awaited: str | None = None
    #: Its process was lost: jobs that the attempt has published exist.
    was_lost: bool = False
    #: It was cut off, by a shutdown or with its process: no attempt of a job with steps.
    is_interrupted: bool = False
    #: The task's name and id, if receivers of signals must be told of the job's end.
    job: tuple[str, str] | None = None


class FinishedJob(NamedTuple):
    """A job that has come to its end; that is written."""

    task: str
    task_id: str
    attempt: int
    state: State
    #: The entry of its ``errors``, as JSON.
    error: str | None


def completed(
    claim: Claimed,
    result: Result | None = None,
    *,
    is_sole: bool = True,
    job: tuple[str, str] | None = None,
) -> Outcome:
    """The task returned, or raised Ignore: its result is not stored."""
    return Outcome(
        claim.id,
        claim.attempt,
        State.COMPLETED,
        result=result,
        awaited=result.task_id if result else None,
        is_sole=is_sole,
        job=job,
    )


def discarded(claim: Claimed, error: str) -> Outcome:
    """The job failed for good."""
    return Outcome(claim.id, claim.attempt, State.DISCARDED, error)


def released(claim: Claimed) -> Outcome:
    """Claimed but never started: back in line, and the attempt does not count."""
    return Outcome(claim.id, claim.attempt, State.AVAILABLE, counts=False)


def requeued(claim: Claimed, error: str | None = None) -> Outcome:
    """Started and put back: in line again until its attempts are used up."""
    return Outcome(claim.id, claim.attempt, State.AVAILABLE, error)


def retried(claim: Claimed, delay: float, error: str, *, was_lost: bool = False) -> Outcome:
    """Failed, or lost with its process, and to run again in ``delay`` seconds.

    ``error`` is empty where the row has it already.
    """
    return Outcome(
        claim.id, claim.attempt, State.RETRYABLE, error or None, delay=delay, was_lost=was_lost
    )


def snoozed(claim: Claimed, delay: float) -> Outcome:
    """Not now, but in ``delay`` seconds; costs no attempt."""
    return Outcome(claim.id, claim.attempt, State.SCHEDULED, counts=False, delay=delay)


def replaced(claim: Claimed) -> Outcome:
    """Its task was replaced by others, the last of which has its id and comes later."""
    return Outcome(claim.id, claim.attempt, State.EXECUTING, is_sole=False)


def cancelled(claim: Claimed, reason: str) -> Outcome:
    """Must not run, or not any longer: Celery says REVOKED."""
    entry = error_entry("TaskRevokedError", reason, None, "celery.exceptions")
    return Outcome(claim.id, claim.attempt, State.CANCELLED, entry)


def cut_short(claim: Claimed, *, acks_late: bool) -> Outcome:
    """Its worker had to leave at once, and ended it: again, unless it was acknowledged early."""
    why = "ended by its worker, which had to leave at once"
    if acks_late:
        again = requeued(claim, error_entry("WorkerShutdown", why))
        return again._replace(is_interrupted=True)
    why += ", after it was acknowledged"
    return discarded(claim, error_entry("WorkerLostError", why, None, "billiard.exceptions"))


def error_entry(
    kind: str, message: str, traceback: str | None = None, module: str | None = None
) -> str:
    """One entry of ``errors`` as JSON: exception type, message and traceback, bounded in size.

    With the ``cause`` that failures which are alike have in common, and the innermost ``frame`` of
    the user's own code; see :mod:`pgjobs_celery.job.fingerprint`.
    """
    traceback = traceback and shorten(traceback, TRACEBACK_LIMIT)
    entry: dict[str, Any] = {
        "type": clean_text(kind),
        "message": clean_text(shorten(message, MESSAGE_LIMIT)),
    }
    frame = own_frame(traceback)
    entry["cause"] = cause_of(entry["type"], message, frame)
    if module and isinstance(module, str):  # a class may say anything of itself
        entry["module"] = clean_text(module)
    if traceback:
        if frame:
            entry["frame"] = clean_text(str(frame))
        entry["traceback"] = clean_text(traceback)
    return json.dumps(entry)


def error_from(exception: BaseException, traceback: str | None = None) -> str:
    """The entry of ``errors`` for an exception."""
    try:
        message = str(exception)
    except Exception as broken:  # a __str__ of the task's own may raise
        message = f"<unprintable {type(exception).__name__}: {type(broken).__name__}>"
    kind = type(exception)
    return error_entry(kind.__qualname__, message, traceback, kind.__module__)


def shorten(text: str, limit: int) -> str:
    """``text`` with its middle left out where it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    head = limit // 3
    return f"{text[:head]}\n… {len(text) - limit} characters left out …\n{text[head - limit :]}"


def clean_text(text: str) -> str:
    """``text`` as PostgreSQL can store it: without NUL and lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
