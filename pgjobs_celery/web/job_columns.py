"""The columns of a list of jobs: which there are, and what stands in each. Pure: reads no row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

from ..job.exceptions import is_endless
from ..job.states import State
from .job_view import BLIND, chosen_repr, parameters, spelled_again
from .values import visible
from .words import NOTHING

if TYPE_CHECKING:
    from ..db.rows.listing import ListedJob
    from .redact import Redaction

#: How much of a text a cell shows, in characters; the page of the job has all.
LONGEST = 120

#: The columns beside task and id, by name, with their titles; in this order.
COLUMNS = {
    "state": "State",
    "queue": "Queue",
    "when": "When",
    "attempt": "Attempt",
    "arguments": "Arguments",
    "tags": "Tags",
    "error": "Error",
    "progress": "Progress",
    "meta": "Meta",
    "worker": "Worker",
    "priority": "Rank",
    "waited": "Waited",
    "ran": "Ran",
    "published": "Published",
    "due": "Due",
    "begun": "Begun",
    "ended": "Ended",
}
#: Those that are shown unless others are chosen.
USUAL = ("state", "queue", "when", "attempt", "arguments", "tags", "progress")
#: Those that hold numbers, or times that are read as such.
NUMBERS = frozenset({"attempt", "priority", "waited", "ran"})


@dataclass(frozen=True)
class Line:
    """A job, as a line of the list shows it."""

    job: ListedJob
    arguments: str
    error: str
    meta: str
    #: The running task's own words of how far it is, ``3 of 10``, and from 0 to 1 if it says so.
    progress: str
    share: float | None
    waited: timedelta | None
    ran: timedelta | None
    #: ``runs``, ``since`` or nothing, and the time that tells most of the job as it is.
    lead: str
    when: datetime | None


def read_columns(given: Sequence[str]) -> tuple[str, ...]:
    """The columns that an address asks for, in their order; the usual ones without any."""
    chosen = {name for each in given for name in each.split(",")}
    return tuple(name for name in COLUMNS if name in chosen) or USUAL


def shown_columns(columns: Sequence[str], lines: Sequence[Line]) -> tuple[str, ...]:
    """Without those of the usual ones that no job of the page fills."""
    fills: dict[str, Callable[[Line], Any]] = {
        "tags": lambda line: line.job.tags,
        "progress": lambda line: line.progress,
    }
    return tuple(
        name for name in columns if name not in fills or any(fills[name](line) for line in lines)
    )


def line_of(
    job: ListedJob,
    redaction: Redaction,
    now: datetime,
    app: Any = None,
    reprs: tuple[str | None, str | None] = (None, None),
) -> Line:
    """The cells that show a job; nothing that is secret.

    ``app`` tells the names of the task's parameters; ``reprs`` are what its publisher has written
    of its arguments, and are shown in their place where he has chosen them.
    """
    redactor = redaction.of(job.task)
    # What is secret in one is hidden in the others, whichever is shown first.
    redactor.learn(job.meta)
    redactor.learn(job.reported)
    args, kwargs = None, None
    if job.args is not None and job.kwargs is not None:
        args, kwargs = redactor.given(job.args, job.kwargs, parameters(app, job.task))
    chosen = [
        None if given is None else chosen_repr(text, spelled_again(given), app)
        for given, text in zip((job.args, job.kwargs), reprs, strict=True)
    ]
    spelled = [redactor.spelled(text) for text in chosen if text is not None]
    reported = redactor.value("result", job.reported)
    meta = redactor.value("meta", job.meta) if job.meta else {}
    message = (job.error_message or "").strip()
    if job.size and args is None:
        message = BLIND if message else ""  # it may tell what was not read
    error = redactor.text(": ".join(filter(None, (job.error, message))))
    progress, share = _progress(job, reported if isinstance(reported, dict) else {}, meta)
    lead, when = _when(job)
    return Line(
        job,
        shorten(", ".join(spelled)) if spelled else _arguments(job, args, kwargs),
        shorten(error),
        shorten(_json(meta)) if meta else "",
        progress,
        share,
        _between(job.scheduled_at, job.attempted_at) if job.attempt else None,
        _between(job.attempted_at, job.finished_at or now) if _has_run(job) else None,
        lead,
        when,
    )


def shorten(text: str, longest: int = LONGEST) -> str:
    """One line of a text that can be read, cut where it is long."""
    cut = text if len(text) <= longest else f"{text[:longest].rstrip()}…"
    return str(visible(cut))


def _arguments(job: ListedJob, args: Any, kwargs: Any) -> str:
    """As in a call: ``1, x=2``."""
    if args is None or kwargs is None:
        if not job.has_message:
            return NOTHING
        return f"{job.size:,} bytes" if job.size else ""
    named = kwargs.items() if isinstance(kwargs, dict) else ()
    parts = [*map(_json, args), *(f"{name}={_json(value)}" for name, value in named)]
    return shorten(", ".join(parts))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)


def _progress(job: ListedJob, reported: Any, meta: Any) -> tuple[str, float | None]:
    if job.state is not State.EXECUTING:
        return "", None
    for given in (reported, meta if isinstance(meta, dict) else {}):
        done = next((given[key] for key in ("current", "done", "progress") if key in given), None)
        total = given.get("total")
        if _is_amount(done) and _is_amount(total) and total > 0:
            return f"{done:,} of {total:,}", min(1.0, max(0.0, done / total))
        if _is_amount(done) and "progress" in given:
            share = done if done <= 1 else done / 100
            return f"{100 * share:.0f} %", min(1.0, max(0.0, share))
    return (job.reported_state or "").title() if job.reported_state != "STARTED" else "", None


def _is_amount(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _when(job: ListedJob) -> tuple[str, datetime | None]:
    if job.finished_at is not None:
        return "", job.finished_at
    if job.state is State.EXECUTING:
        return "since", job.attempted_at
    if job.state in (State.SCHEDULED, State.RETRYABLE):
        if is_endless(job.scheduled_at):
            return "waits, no timeout", None
        return "runs", job.scheduled_at
    return "ready", job.scheduled_at


def _has_run(job: ListedJob) -> bool:
    return job.attempt > 0 and (job.state is State.EXECUTING or job.finished_at is not None)


def _between(first: datetime | None, last: datetime | None) -> timedelta | None:
    return max(timedelta(0), last - first) if first is not None and last is not None else None
