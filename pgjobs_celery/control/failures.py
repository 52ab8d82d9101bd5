"""Which problems jobs stand at: failures grouped by fingerprint, and what changed with a deploy.

A job stands at its last failure until it completes or is cancelled, so a job that failed and then
succeeded is in no group. Rows are read by an index on the time of the failure, the newest 10,000
at most; ``is_cut`` says where there are more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..db.database import Database
from ..db.rows.failures import BARS, LATEST, MOST_PROBLEMS, NEWEST, FailedJob
from ..errors import InvalidOption
from ..job.recorded import read_entry
from ..job.spelling import read_duration
from ..job.states import State
from .app import database_of
from .jobs import jobs
from .problems import Failures, Problem, gather

if TYPE_CHECKING:
    from ..db.rows.failures import UnnamedRow
    from .jobs import Selection

#: The states of a job that has failed, and that no worker has taken up since.
FAILED = (State.DISCARDED, State.RETRYABLE)
#: How many jobs of a problem are listed at a time.
PAGE = 50
#: The least and the greatest span before a time that the one after it is compared with, in seconds.
LEAST_BEFORE, MOST_BEFORE = 3600.0, 7 * 86_400.0


@dataclass(frozen=True)
class Change:
    """A problem before and after a time."""

    problem: Problem
    #: How many jobs that stand at it failed before, and after.
    before: int
    after: int
    #: How many it would be after at the rate of before.
    expected: float
    #: ``new``, ``more``, ``same``, ``fewer`` or ``gone``.
    kind: str


@dataclass(frozen=True)
class Shift:
    """One problem before and after a time; the fields are those of :class:`Change`."""

    at: datetime
    before: int
    after: int
    expected: float
    kind: str


@dataclass(frozen=True)
class Comparison:
    """The failures before and after a time, a deploy for one."""

    at: datetime
    before: Failures
    after: Failures
    #: New ones first, then by kind as above.
    changes: tuple[Change, ...]


KINDS = ("new", "more", "fewer", "gone", "same")


@dataclass(frozen=True)
class Standing:
    """How the jobs of one problem stand, as far as they were looked at: the newest 10,000."""

    jobs: int
    is_cut: bool
    first_seen: datetime | None
    last_seen: datetime | None
    states: dict[State, int]
    tasks: dict[str, int]
    queues: dict[str, int]
    workers: dict[str, int]
    series: tuple[int, ...]

    @property
    def failed(self) -> int:
        """How many of them an action on the failed ones means."""
        return sum(self.states.get(state, 0) for state in FAILED)


def failures(
    app: Any,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    tasks: Sequence[str] | None = None,
    queues: Sequence[str] | None = None,
    errors: Sequence[str] | None = None,
    limit: int = MOST_PROBLEMS,
) -> Failures:
    """The problems that jobs stand at which failed after ``since`` and until ``until``.

    Up to ``limit`` of them, the last seen. ``app`` is a Celery app or a Database. Times without a
    zone are UTC. Raises InvalidOption where the span is none.
    """
    if since is not None and until is not None and since >= until:
        raise InvalidOption("the beginning of the span must be before its end")
    database = app if isinstance(app, Database) else database_of(app)
    rows, looked, unnamed = database.failures.survey_failures(
        since, until, tasks=tasks, queues=queues, errors=errors, limit=limit
    )
    found = gather(rows, looked, _meant(unnamed, tasks, queues, errors), since, until)
    cut = max(0, len(found.problems) - limit)
    return replace(found, problems=found.problems[:limit], more=found.more + cut)


def compare(app: Any, at: datetime, until: datetime | None = None) -> Comparison:
    """The failures before ``at``, and since; before is as long as after, and at least an hour.

    Raises InvalidOption for a time that has not come.
    """
    after = failures(app, at, until)
    if at >= after.until:
        raise InvalidOption("compare with a time that is past")
    length = _length_before(at, after.until)
    before = failures(app, at - timedelta(seconds=length), at)
    return Comparison(at, before, after, changes(before, after, at))


def shift(app: Any, fingerprint: str, at: datetime, first_seen: datetime | None) -> Shift:
    """How one problem has changed with that time; spans as :func:`compare` has them."""
    database = app if isinstance(app, Database) else database_of(app)
    after = database.failures.count_problem(fingerprint, at, LATEST)
    if at >= after.now:
        raise InvalidOption("compare with a time that is past")
    length = _length_before(at, after.now)
    before = database.failures.count_problem(fingerprint, at - timedelta(seconds=length), at)
    cut = before.jobs >= NEWEST and before.oldest is not None
    seconds = (at - before.oldest).total_seconds() if cut and before.oldest else length
    expected = before.jobs * (after.now - at).total_seconds() / max(1.0, seconds)
    is_new = first_seen is not None and first_seen >= at
    kind = kind_of(before.jobs, after.jobs, expected, is_new=is_new)
    return Shift(at, before.jobs, after.jobs, expected, kind)


def _length_before(at: datetime, until: datetime) -> float:
    return min(max((until - at).total_seconds(), LEAST_BEFORE), MOST_BEFORE)


def moment(given: str, now: datetime) -> datetime:
    """A time, from how long ago it was (``90``, ``15m``, ``2h``, ``3d``) or in ISO 8601.

    Without a zone it is UTC. Raises InvalidOption.
    """
    try:
        found = datetime.fromisoformat(given.strip().replace("Z", "+00:00"))
    except ValueError:
        try:
            return now - timedelta(seconds=read_duration(given))
        except (InvalidOption, OverflowError):
            raise InvalidOption(
                f"{given[:40]!r} is not a time: write 90, 15m, 2h, 3d or 2026-11-29T22:00"
            ) from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def changes(before: Failures, after: Failures, at: datetime) -> tuple[Change, ...]:
    """The problems of both spans, each with how it has changed."""
    early = {problem.fingerprint: problem for problem in before.problems}
    late = {problem.fingerprint: problem for problem in after.problems}
    ratio = after.seconds / before.seconds
    found = []
    for name in late.keys() | early.keys():
        was, now = early.get(name), late.get(name)
        problem = now or was
        if problem is None:
            continue
        count = 0 if was is None else was.jobs
        expected = count * ratio
        kind = kind_of(
            count, 0 if now is None else now.jobs, expected, is_new=problem.first_seen >= at
        )
        found.append(Change(problem, count, 0 if now is None else now.jobs, expected, kind))
    found.sort(key=lambda c: (KINDS.index(c.kind), -c.after, -c.before, c.problem.fingerprint))
    return tuple(found)


def kind_of(before: int, after: int, expected: float, *, is_new: bool) -> str:
    """How a problem has changed; two standard deviations of chance are no change.

    A rare one may be absent by chance: it is gone only where three were to be expected, as at
    least one of those comes in 95 of 100 cases.
    """
    if after and is_new:
        return "new"
    if not after:
        return "gone" if expected >= 3 else "same"
    noise = 2 * math.sqrt(max(expected, 1.0))
    if after > expected + noise:
        return "more"
    return "fewer" if after < expected - noise else "same"


def standing(app: Any, fingerprint: str) -> Standing:
    """How the jobs of one problem stand now."""
    database = app if isinstance(app, Database) else database_of(app)
    rows = database.failures.survey_problem(fingerprint)
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row.kind, {})[row.name] = row.jobs
    states = [row for row in rows if row.kind == "state"]
    total = sum(row.jobs for row in states)
    bars = counts.get("bar", {})

    def most(kind: str) -> dict[str, int]:
        found = counts.get(kind, {})
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    return Standing(
        jobs=total,
        is_cut=total >= NEWEST,
        first_seen=min((row.first for row in rows), default=None),
        last_seen=max((row.last for row in states), default=None),
        states={State(row.name): row.jobs for row in states},
        tasks=most("task"),
        queues=most("queue"),
        workers=most("worker"),
        series=tuple(bars.get(str(bar), 0) for bar in range(1, BARS + 1)),
    )


def failed_jobs(app: Any, fingerprint: str) -> Selection:
    """The jobs of a problem that have failed and wait for nobody: what to retry or delete."""
    return jobs(app).filter(fingerprint=fingerprint, state=[state.value for state in FAILED])


def unnamed_jobs(app: Any, fingerprint: str) -> tuple[FailedJob, ...]:
    """Jobs of a problem whose rows do not name it, as far as they are looked for."""
    database = app if isinstance(app, Database) else database_of(app)
    return tuple(
        FailedJob(
            row.task_id, row.task, row.queue, State.DISCARDED.value, None, None, row.worker,
            row.finished_at, None,
        )
        for row in database.failures.list_unnamed()
        if read_entry(row.error).fingerprint(row.task) == fingerprint
    )  # fmt: skip


def _meant(
    rows: Iterable[UnnamedRow],
    tasks: Sequence[str] | None,
    queues: Sequence[str] | None,
    errors: Sequence[str] | None,
) -> list[UnnamedRow]:
    return [
        row
        for row in rows
        if (not tasks or row.task in tasks)
        and (not queues or row.queue in queues)
        and (not errors or read_entry(row.error).type in errors)
    ]
