"""The attempts of a job, from its row: a pure function.

Failed attempts are in ``errors``, the newest 50 of them; the last one is the row's own. An attempt
that was snoozed, or given back before it began, is told only while it is the last, because it costs
no attempt and leaves no error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from ..job.recorded import Recorded, read_entry
from ..job.states import State

#: Errors that end a job without a run.
_ENDED_WAITING = ("TaskRevokedError", "Purged")
#: Errors of an attempt that was taken from its worker.
_LOST = ("WorkerLostError",)
_GIVEN_BACK = ("WorkerShutdown",)


class Attempted(Protocol):
    """A job, as far as its attempts go: a :class:`~pgjobs_celery.job.job.Job` for one."""

    @property
    def task(self) -> str:
        """The name of its task."""

    @property
    def state(self) -> State:
        """Its state."""

    @property
    def attempt(self) -> int:
        """How often it has started."""

    @property
    def errors(self) -> Sequence[Any]:
        """Its entries of ``errors``, whatever they are."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """Its meta."""

    @property
    def attempted_at(self) -> datetime | None:
        """When it was claimed last."""

    @property
    def attempted_by(self) -> str | None:
        """By which worker."""

    @property
    def finished_at(self) -> datetime | None:
        """When it ended."""


@dataclass(frozen=True)
class Attempt:
    """One run of a job; None for what its row does not tell (rows of older releases)."""

    #: 1 for the first.
    number: int | None
    #: When a worker claimed it, and when it ended.
    began: datetime | None
    ended: datetime | None
    worker: str | None
    #: ``running``, ``completed``, ``failed`` (for good), ``retried`` (run again, or waiting to),
    #: ``lost`` (with its worker), ``given back``, ``snoozed``, ``cancelled``; ``unknown`` where the
    #: job was put in line again since, and the row keeps no more of it.
    outcome: str
    #: Of its error; empty without one.
    type: str = ""
    message: str = ""
    traceback: str | None = None
    #: The innermost line of the user's own code, as ``app/tasks.py:12 in charge``.
    frame: str | None = None
    #: The name of the problem, for ``jobs(app).filter(fingerprint=...)``.
    fingerprint: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, in seconds."""
        if self.began is None or self.ended is None:
            return None
        return max(0.0, (self.ended - self.began).total_seconds())


def attempts(job: Attempted) -> tuple[Attempt, ...]:
    """The attempts that the row tells of, the oldest first. Never raises, whatever it holds."""
    found = list(_ended(job))
    last = _last(job, found[-1] if found else None)
    if last is not None:
        found.append(last)
    return tuple(found)


def _ended(job: Attempted) -> Iterator[Attempt]:
    """Those that have left an error."""
    entries = [read_entry(entry) for entry in job.errors]
    seen: set[int | None] = set()
    for index, entry in enumerate(entries):
        if entry.type in _ENDED_WAITING and not _is_run(entry, seen, job):
            continue
        seen.add(entry.attempt)
        is_last = not any(e.type not in _ENDED_WAITING for e in entries[index + 1 :])
        attempt = Attempt(
            number=entry.attempt,
            began=entry.began,
            ended=entry.at,
            worker=entry.worker,
            outcome=_outcome(entry, job, is_last),
            type=entry.type,
            message=entry.message,
            traceback=entry.traceback,
            frame=entry.frame,
            fingerprint=None if entry.type in _ENDED_WAITING else entry.fingerprint(job.task),
        )
        if is_last and entry.began is None:
            attempt = _completed_by_row(attempt, job)
        yield attempt


def _is_run(entry: Recorded, seen: set[int | None], job: Attempted) -> bool:
    """True for the cancellation of an attempt, and not of a job that waited."""
    if entry.began is not None:
        return True
    number = entry.attempt
    return bool(number) and number not in seen and number is not None and number <= job.attempt


def _outcome(entry: Recorded, job: Attempted, is_last: bool) -> str:
    if entry.type in _ENDED_WAITING:
        return "cancelled"
    if is_last and job.state is State.DISCARDED and entry.attempt in (None, job.attempt):
        return "lost" if entry.type in _LOST else "failed"
    if entry.type in _LOST:
        return "lost"
    return "given back" if entry.type in _GIVEN_BACK else "retried"


def _completed_by_row(attempt: Attempt, job: Attempted) -> Attempt:
    """With the begin and the worker that the row has of its last attempt, if it is that."""
    began = job.attempted_at
    if attempt.number != job.attempt or began is None:
        return attempt
    if attempt.ended is not None and began > attempt.ended:
        return attempt  # it has begun once more since
    return replace(attempt, began=began, worker=attempt.worker or job.attempted_by)


def _last(job: Attempted, before: Attempt | None) -> Attempt | None:
    """The last attempt, where it has left no error."""
    if job.attempted_at is None:
        return None
    known: dict[str, Any] = {
        "number": job.attempt, "began": job.attempted_at, "worker": job.attempted_by,
    }  # fmt: skip
    if job.state is State.EXECUTING:
        return Attempt(ended=None, outcome="running", **known)
    if job.state is State.COMPLETED:
        return Attempt(ended=job.finished_at, outcome="completed", **known)
    if before is not None and (before.ended is None or before.ended >= job.attempted_at):
        return None
    if job.state is State.SCHEDULED and "snoozed" in job.meta:
        return Attempt(ended=None, outcome="snoozed", **{**known, "number": job.attempt + 1})
    if job.state in (State.AVAILABLE, State.SCHEDULED):
        # Given back before it began, or completed once and put in line again by hand.
        if job.attempt:
            return Attempt(ended=None, outcome="unknown", **{**known, "number": None})
        return Attempt(ended=None, outcome="given back", **{**known, "number": 1})
    if job.state is State.RETRYABLE:
        return Attempt(ended=None, outcome="retried", **known)
    outcome = "failed" if job.state is State.DISCARDED else "cancelled"
    return Attempt(ended=job.finished_at, outcome=outcome, **known)
