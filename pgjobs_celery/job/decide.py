"""Decide what becomes of a job whose run has ended: a pure function of what is known of the end."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.exceptions import Ignore, Reject, Retry

from .exceptions import REPLACED, CancelledByTask, LetGo, Postponed
from .outcome import (
    Claimed,
    Outcome,
    Result,
    cancelled,
    completed,
    cut_short,
    discarded,
    error_entry,
    error_from,
    replaced,
    requeued,
    retried,
    snoozed,
)
from .states import State

#: The pool's errors for a task whose process has ended.
ENDED = (Terminated, WorkerLostError, SystemExit, KeyboardInterrupt)
#: The pool's errors for a task whose process was lost, where it was not told to end it.
KILLED = (WorkerLostError, TimeLimitExceeded)
#: Ends of an attempt that its process leaves to the worker's main process to be written.
LEFT_TO_WORKER = (Postponed, CancelledByTask)


class End(Enum):
    """How a run has ended, or why it did not begin."""

    #: The task returned.
    RETURNED = auto()
    #: The task, or code around it, raised ``error``, or its process was lost with that.
    RAISED = auto()
    #: Its hard time limit was exceeded.
    TIMED_OUT = auto()
    #: Celery, or the holder of the message, has put the message back; ``error`` is the reason.
    REQUEUED = auto()
    #: Celery has published the task again.
    REPUBLISHED = auto()
    #: It must not run, or not any longer.
    REVOKED = auto()
    #: Its worker had to leave at once, and its pool ended without a report of it.
    UNREPORTED = auto()
    #: The holder of the message has acknowledged it, and no pool had it.
    ACKNOWLEDGED = auto()
    #: The holder of the message has refused it.
    REJECTED = auto()


class EndedRun(NamedTuple):
    """The end of a run, with all that the job's outcome depends on."""

    claim: Claimed
    end: End
    error: BaseException | None = None
    traceback: str | None = None
    #: The task's result, where the process that ran it leaves this to be written with the rest.
    result: Result | None = None
    #: That process has finished the row with its result.
    is_written: bool = False
    #: That process could not write the end: another worker has the job.
    is_lost: bool = False
    #: Other code may have written the end before; False for a task whose result is ignored, and
    #: that has succeeded.
    is_shared: bool = True
    #: False if a failure is not stored, because the task's result is ignored.
    stores_failure: bool = True
    acks_late: bool = True
    acks_on_timeout: bool = True
    #: It was revoked while it ran, and Celery has announced that.
    is_revoked: bool = False
    #: Its worker had to leave at once, and has told its process to end.
    is_cut_short: bool = False
    #: Why it was revoked.
    reason: str = ""
    #: The time limit that was exceeded, in seconds.
    limit: float | None = None
    #: The task's id, if a program may wait for it to finish.
    task_id: str | None = None
    #: The task's name and id, if receivers of signals must be told of the job's end.
    job: tuple[str, str] | None = None


def decide(run: EndedRun) -> Outcome | None:
    """The outcome of the job; None where its row has it already, and only the claim ends.

    Of several outcomes of one run the first counts.
    """
    if run.end is End.RETURNED:
        return decide_success(
            run.claim, run.result, run.is_written, run.is_lost, run.is_shared, run.job
        )
    if run.end is End.REPUBLISHED:
        return None  # which has put the row back in line
    if isinstance(run.error, LetGo):
        return None  # it is another worker's
    outcome = _decide(run)
    return outcome._replace(
        awaited=None if outcome.state is State.COMPLETED else run.task_id,
        is_sole=_is_sole(run, outcome.state),
        job=run.job,
    )


def decide_success(
    claim: Claimed,
    result: Result | None,
    is_written: bool,
    is_lost: bool,
    is_shared: bool,
    job: tuple[str, str] | None,
) -> Outcome | None:
    """The outcome where the task returned. Saves a worker an ``EndedRun`` per task (1 µs)."""
    if is_written:
        return None
    is_sole = is_lost or result is not None or not is_shared
    return completed(claim, result, is_sole=is_sole, job=job)


def _decide(run: EndedRun) -> Outcome:
    claim, end, error = run.claim, run.end, run.error
    if end is End.RAISED and error is not None:
        return _decide_failure(run, error)
    if end is End.TIMED_OUT:
        return _decide_timeout(run)
    if end is End.REQUEUED:
        is_reason = error is not None and not isinstance(error, Reject)
        return requeued(claim, error_from(error) if error and is_reason else None)
    if end is End.REVOKED:
        return cancelled(claim, run.reason)
    if end is End.UNREPORTED:
        return cut_short(claim, acks_late=run.acks_late)
    if error is not None:
        # A worker acknowledges a message that it cannot read; that is not a success.
        return _discarded(run, error_from(error))
    if end is End.REJECTED:
        why = "rejected by its consumer; the worker's log says why"
        return _discarded(run, error_entry("Reject", why))
    return completed(claim)


def _decide_failure(run: EndedRun, error: BaseException) -> Outcome:
    claim = run.claim
    if run.is_revoked:
        return Outcome(claim.id, claim.attempt, State.CANCELLED)
    if run.is_cut_short and isinstance(error, ENDED):
        return cut_short(claim, acks_late=run.acks_late)
    if isinstance(error, Postponed):
        if error.error is None:
            return snoozed(claim, error.delay)
        again = retried(claim, error.delay, error.error, was_lost=is_killed(error.exc))
        is_interrupted = isinstance(error.exc, WorkerLostError)
        return again._replace(is_stored=run.stores_failure, is_interrupted=is_interrupted)
    if isinstance(error, CancelledByTask):
        return cancelled(claim, error.reason)
    if isinstance(error, Ignore) and str(error) == REPLACED:
        return replaced(claim)
    if isinstance(error, (Ignore, Retry)):
        return completed(claim)  # a retry has put its row back in line: this changes nothing
    return _discarded(run, error_from(error, run.traceback))


def _decide_timeout(run: EndedRun) -> Outcome:
    why = f"the hard time limit ({run.limit} s) was exceeded"
    entry = error_entry("TimeLimitExceeded", why)
    if run.acks_late and not run.acks_on_timeout:
        return requeued(run.claim, entry)
    return _discarded(run, entry)


def _discarded(run: EndedRun, entry: str) -> Outcome:
    return discarded(run.claim, entry)._replace(is_stored=run.stores_failure)


def _is_sole(run: EndedRun, state: State) -> bool:
    """True if no other code can have written the end of this run."""
    if run.is_lost or isinstance(run.error, LEFT_TO_WORKER):
        return True
    if run.end is End.RAISED:
        # A failure is written where it happens, whether the result is ignored or not.
        is_success = state is State.COMPLETED and isinstance(run.error, Ignore)
        return is_success and not run.is_shared
    return not run.is_shared


def is_killed(error: BaseException) -> bool:
    """True where a task's process was lost with it, or leaves with what it has raised."""
    # A process of the pool leaves with all that is no Exception: asyncio.CancelledError, for one.
    return isinstance(error, KILLED) or not isinstance(error, Exception)
