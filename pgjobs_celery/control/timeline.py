"""The events in the life of a job, and the time between them. Pure: reads no row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from ..job.exceptions import is_endless
from ..job.states import State

#: A difference that is no wait: the clocks of a publisher and the server, or the flow of things.
NOTHING = timedelta(seconds=1)

#: The words for the end, by the final state.
ENDS = {
    State.COMPLETED: "completed",
    State.DISCARDED: "discarded",
    State.CANCELLED: "cancelled",
}


class Timed(Protocol):
    """A job, as far as its timeline goes."""

    @property
    def state(self) -> State: ...
    @property
    def attempt(self) -> int: ...
    @property
    def inserted_at(self) -> datetime | None: ...
    @property
    def scheduled_at(self) -> datetime | None: ...
    @property
    def due_at(self) -> datetime | None: ...
    @property
    def attempted_at(self) -> datetime | None: ...
    @property
    def attempted_by(self) -> str | None: ...
    @property
    def cancel_requested_at(self) -> datetime | None: ...
    @property
    def finished_at(self) -> datetime | None: ...


@dataclass(frozen=True)
class Try:
    """An attempt, as far as it is known."""

    number: int
    began: datetime | None = None
    ended: datetime | None = None
    worker: str | None = None
    #: The type of the exception that it failed with; None if it did not.
    error: str | None = None
    #: It has failed, and is the last.
    is_final: bool = False


@dataclass(frozen=True)
class Moment:
    """Something that happened to a job, or is going to."""

    #: ``published``, ``due``, ``began``, ``failed``, ``cancel_requested``, ``running``, or the
    #: final state.
    kind: str
    at: datetime
    #: The attempt that it is part of.
    attempt: int | None = None
    worker: str | None = None
    error: str | None = None
    #: Has not happened yet.
    is_ahead: bool = False
    #: For how long, and what it did meanwhile since the moment before: ``waited``, ``ran``, or
    #: ``delayed`` (until it was due).
    span: timedelta | None = None
    did: str = ""


def timeline(job: Timed, tries: Sequence[Try], now: datetime) -> list[Moment]:
    """The moments of a job, the first first, each with what lies before it.

    ``now`` is the time of the server when the job was read: what runs or waits has done so until
    then. Of an attempt of which the begin is not known, only the end is there.
    """
    known = [moment for moment in _moments(job, tries, now) if moment is not None]
    order = {"published": 0, "due": 1, "began": 2, "failed": 3, "cancel_requested": 4}
    known.sort(key=lambda moment: (moment.at, order.get(moment.kind, 5)))
    return list(_with_spans(known))


def _moments(job: Timed, tries: Sequence[Try], now: datetime) -> Iterator[Moment]:
    published = job.inserted_at
    if published is not None:
        yield Moment("published", published)
    due = job.due_at or job.scheduled_at
    is_due_once = due is not None and not is_endless(due, now)
    if is_due_once and due is not None and published is not None and due - published > NOTHING:
        yield Moment("due", due, is_ahead=due > now)
    for each in _complete(job, tries):
        number, worker = each.number, each.worker
        if each.began is not None:
            yield Moment("began", each.began, number, worker)
        if each.ended is not None and not each.is_final:
            yield Moment("failed", each.ended, number, worker, each.error)
    if job.cancel_requested_at is not None:
        yield Moment("cancel_requested", job.cancel_requested_at)
    last = tries[-1].error if tries and tries[-1].is_final else None
    if job.state in ENDS and job.finished_at is not None:
        yield Moment(ENDS[job.state], job.finished_at, job.attempt or None, job.attempted_by, last)
    elif job.state is State.EXECUTING:
        yield Moment("running", now, job.attempt, job.attempted_by)


def _complete(job: Timed, tries: Iterable[Try]) -> Iterator[Try]:
    """The attempts, with what the row says of the last one."""
    is_there = False
    for each in tries:
        if each.number == job.attempt:
            is_there = True
            began = each.began or job.attempted_at
            each = replace(each, began=began, worker=each.worker or job.attempted_by)  # noqa: PLW2901
        yield each
    if not is_there and job.attempt and job.attempted_at is not None:
        yield Try(job.attempt, job.attempted_at, worker=job.attempted_by)


def _with_spans(moments: Iterable[Moment]) -> Iterator[Moment]:
    before: Moment | None = None
    is_running = False
    for moment in moments:
        if before is not None:
            did = "ran" if is_running else "delayed" if moment.kind == "due" else "waited"
            span = max(moment.at - before.at, timedelta())
            yield replace(moment, span=span, did=did)
        else:
            yield moment
        if moment.kind == "began":
            is_running = True
        elif moment.kind not in ("cancel_requested", "due"):
            is_running = False
        before = moment


#: Of so many attempts each is told; of more the first and the last few.
FEW, FIRST, LAST = 6, 2, 3


def segments(moments: Sequence[Moment]) -> list[tuple[bool, list[Moment]]]:
    """The moments in order, in up to three parts; True for the one that may be folded away."""
    numbers = sorted({each.attempt for each in moments if each.attempt is not None})
    if len(numbers) <= FEW:
        return [(False, list(moments))]
    middle = set(numbers[FIRST:-LAST])
    found: list[tuple[bool, list[Moment]]] = []
    for each in moments:
        is_middle = each.attempt in middle
        if not found or found[-1][0] is not is_middle:
            found.append((is_middle, []))
        found[-1][1].append(each)
    return found
