"""Problems, made of the rows that name them and of those that do not: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from ..db.rows.failures import BARS, EARLIEST, NEWEST, bar_of
from ..job.fingerprint import summary
from ..job.recorded import read_entry

if TYPE_CHECKING:
    from ..db.rows.failures import Looked, ProblemRow, UnnamedRow


@dataclass(frozen=True)
class Problem:
    """Failures that are alike."""

    fingerprint: str
    #: The type of the exception, and its module where that is known.
    type: str
    module: str | None
    #: The newest message, and what all of them have in common.
    message: str
    summary: str
    #: The innermost line of the user's own code, as ``app/tasks.py:12 in charge``.
    frame: str | None
    #: How many jobs stand at it; how many of them for good, and how many wait for another attempt.
    #: The others are in line, or run, once more.
    jobs: int
    discarded: int
    retryable: int
    #: When the first of the kept jobs failed so, and the last.
    first_seen: datetime
    last_seen: datetime
    tasks: tuple[str, ...]
    queues: tuple[str, ...]
    #: How many failed in each of 24 spans of the time that was looked at, the oldest first.
    series: tuple[int, ...]
    #: The newest job, and the worker that it failed on.
    task_id: str
    worker: str | None
    #: Jobs among them whose rows do not name the problem, because they failed before version 11 of
    #: the schema: the filter ``fingerprint`` does not find these.
    unnamed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failures:
    """The problems of a span of time."""

    #: The one that was last seen first.
    problems: tuple[Problem, ...]
    #: How many failures were looked at, and between which times.
    looked: int
    since: datetime
    until: datetime
    #: There are older failures in the span, which were not looked at.
    is_cut: bool
    #: There are so many more problems.
    more: int = 0

    @property
    def seconds(self) -> float:
        """How long the span is that was looked at."""
        return max(1.0, (self.until - self.since).total_seconds())


def gather(
    rows: Iterable[ProblemRow],
    looked: Looked,
    unnamed: Iterable[UnnamedRow],
    since: datetime | None,
    until: datetime | None,
) -> Failures:
    """The problems of rows that name them and of rows that do not."""
    rows, unnamed = list(rows), list(unnamed)
    is_cut = looked.jobs >= NEWEST
    times = [looked.oldest] if looked.oldest else []
    times += [row.finished_at for row in unnamed]
    oldest = min(times, default=since or looked.now)
    begin = looked.oldest if is_cut and looked.oldest else max(since or EARLIEST, EARLIEST)
    begin = oldest if begin <= EARLIEST else begin
    end = min(until or looked.now, looked.now)
    found = {row.fingerprint: _problem(row) for row in rows}
    for row in unnamed:
        one = _unnamed_problem(row, begin, end)
        known = found.get(one.fingerprint)
        found[one.fingerprint] = one if known is None else _joined(known, one)
    problems = sorted(found.values(), key=lambda p: (p.last_seen, p.fingerprint), reverse=True)
    more = max(0, rows[0].problems - len(rows)) if rows else 0
    return Failures(tuple(problems), looked.jobs + len(unnamed), begin, end, is_cut, more)


def _problem(row: ProblemRow) -> Problem:
    entry = read_entry(row.error)
    return Problem(
        fingerprint=row.fingerprint,
        type=entry.type or row.fingerprint.rpartition("-")[0],
        module=entry.module,
        message=entry.message,
        summary=summary(entry.message, entry.type),
        frame=entry.frame,
        jobs=row.jobs,
        discarded=row.discarded,
        retryable=row.retryable,
        first_seen=min(row.first_ever, row.first),
        last_seen=row.last,
        tasks=tuple(row.tasks),
        queues=tuple(row.queues),
        series=row.bars,
        task_id=row.task_id,
        worker=row.worker,
    )


def _unnamed_problem(row: UnnamedRow, since: datetime, until: datetime) -> Problem:
    entry = read_entry(row.error)
    bar = bar_of(row.finished_at, since, until)
    return Problem(
        fingerprint=entry.fingerprint(row.task),
        type=entry.type,
        module=entry.module,
        message=entry.message,
        summary=summary(entry.message, entry.type),
        frame=entry.frame,
        jobs=1,
        discarded=1,
        retryable=0,
        first_seen=row.finished_at,
        last_seen=row.finished_at,
        tasks=(row.task,),
        queues=(row.queue,),
        series=tuple(int(place == bar) for place in range(BARS)),
        task_id=row.task_id,
        worker=row.worker,
        unnamed=(row.task_id,),
    )


def _joined(one: Problem, other: Problem) -> Problem:
    newer = one if one.last_seen >= other.last_seen else other
    return replace(
        newer,
        jobs=one.jobs + other.jobs,
        discarded=one.discarded + other.discarded,
        retryable=one.retryable + other.retryable,
        first_seen=min(one.first_seen, other.first_seen),
        tasks=tuple(sorted({*one.tasks, *other.tasks})),
        queues=tuple(sorted({*one.queues, *other.queues})),
        series=tuple(a + b for a, b in zip(one.series, other.series, strict=True)),
        unnamed=one.unnamed + other.unnamed,
    )
