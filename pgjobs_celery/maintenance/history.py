"""Count the ends of each minute by task and queue, with how long they had taken.

Made of the ends that the totals are made of, in the same transaction. Ends that are final are added
to their minute for good; those that are recent stand beside them, and are written anew each time. A
wide bucket is added up from narrow ones once the counts have come past its end: no end comes after.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from ..db.rows.history import Depth, HistoryKey, Period

if TYPE_CHECKING:
    from ..db.rows.history import HistoryRows
    from ..db.rows.metrics import Ends, Line

#: The upper bounds of the buckets of metrics, in seconds; celery-exporter's, and some more. They
#: stay as they are: the totals were counted by them.
RUNTIMES = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    300.0, 1800.0, 3600.0,
)  # fmt: skip
WAITS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0, 3600.0,
)  # fmt: skip
#: Those of the history, which are all of them and some more: 26 buckets. They stay, too.
BOUNDS = (0.001, 0.0025, *sorted({*RUNTIMES, *WAITS}), 14_400.0, 86_400.0)

#: The counter of an end, or of an attempt that was none, by its state where that is not its
#: name.
KINDS = {"completed": "succeeded", "discarded": "failed"}
COUNTED = ("succeeded", "failed", "cancelled", "retried", "snoozed", "rescued")
#: Names are cut off there, as the totals do.
LONGEST_NAME = 200
#: The name that is counted where names have no place of their own.
OTHER = "other"

#: How long each bucket is, and for how long it is kept, in seconds.
MINUTE, TEN_MINUTES, HOUR, DAY = 60, 600, 3600, 86_400
KEPT = {MINUTE: 3 * 3600.0, TEN_MINUTES: 50 * 3600.0, HOUR: 35 * 86_400.0, DAY: 35 * 86_400.0}
#: Which narrower ones a wide bucket is added up from.
PARTS = {TEN_MINUTES: MINUTE, HOUR: TEN_MINUTES, DAY: HOUR}


def coarser(bounds: Sequence[float], coarse: Sequence[float]) -> list[int]:
    """The bucket by ``coarse`` for each bucket by ``bounds``, which has all bounds of the other."""
    return [bisect_left(coarse, bound) for bound in bounds] + [len(coarse)]


class History:
    """The work of the process that folds for the history."""

    def __init__(self, limit: int) -> None:
        #: How many tasks, and how many queues, have a place of their own.
        self._limit = limit
        self._places = Places((), limit)

    def add(self, rows: HistoryRows, since: str, until: str, ends: Collection[Ends]) -> None:
        """Add what has ended; ``since`` and ``until`` are how far counts had come, and have."""
        named = {("task", each.task) for each in ends} | {("queue", each.queue) for each in ends}
        self._know(rows, named)
        rows.add(since, periods(ends, self._places))
        if until != since:
            rows.roll(since, until, PARTS)
            rows.prune(KEPT)

    def sample(self, rows: HistoryRows, lines: Collection[Line]) -> None:
        """Note how many jobs are in line."""
        self._know(rows, {("queue", each.queue[:LONGEST_NAME]) for each in lines})
        rows.sample(depths(lines, self._places))

    def _know(self, rows: HistoryRows, named: Collection[tuple[str, str]]) -> None:
        """Have the names in mind that have places; asked for only where a new one comes."""
        if not self._places.have(named):
            self._places = Places(rows.list_names(), self._limit)


class Places:
    """Which tasks and queues are counted apart: whichever came first, for as long as it is kept."""

    def __init__(self, known: Iterable[tuple[str, str]], limit: int) -> None:
        self._known = set(known)
        self._free = {
            kind: limit - sum(each == kind for each, _ in self._known) for kind in ("task", "queue")
        }

    def have(self, named: Collection[tuple[str, str]]) -> bool:
        """True if all these have a place already."""
        return self._known.issuperset(named)

    def of(self, kind: str, name: str) -> str:
        """The name that it is counted by."""
        if (kind, name) not in self._known:
            if self._free[kind] <= 0:
                return OTHER
            self._free[kind] -= 1
            self._known.add((kind, name))
        return name


def periods(ends: Iterable[Ends], places: Places) -> dict[HistoryKey, Period]:
    """The increments of each minute of all jobs, of each task and of each queue."""
    found: dict[HistoryKey, Period] = {}
    for each in sorted(ends):
        if not each.minute:
            continue
        task, queue = places.of("task", each.task), places.of("queue", each.queue)
        for kind, name in (("all", ""), ("task", task), ("queue", queue)):
            key = HistoryKey(kind, name, each.minute, each.is_final)
            if key not in found:
                found[key] = Period()
            count(found[key], each)
    return found


def count(period: Period, each: Ends) -> None:
    """Add ends that are alike."""
    kind = KINDS.get(each.state, each.state)
    if kind not in COUNTED:
        return
    setattr(period, kind, getattr(period, kind) + each.number)
    # Of a job that was cancelled the last attempt, if there was one, may have been retried.
    if each.has_run and kind != "cancelled":
        period.waited += each.wait_micros / 1e6
        period.ran += each.runtime_micros / 1e6
        _put(period.waits, each.wait_bucket, each.number)
        _put(period.runs, each.runtime_bucket, each.number)


def _put(counts: list[int], bucket: int, number: int) -> None:
    counts.extend([0] * (bucket + 1 - len(counts)))
    counts[bucket] += number


def depths(lines: Iterable[Line], places: Places) -> list[Depth]:
    """How many jobs are ready, and how many run, of all together and of each queue with any."""
    found: dict[tuple[str, str], list[int]] = {("all", ""): [0, 0]}
    for line in lines:
        if line.state not in ("available", "executing"):
            continue
        queue = places.of("queue", line.queue[:LONGEST_NAME])
        of_queue = found.setdefault(("queue", queue), [0, 0])
        for counts in (found["all", ""], of_queue):
            counts[line.state == "executing"] += line.jobs
    return [Depth(*key, *counts) for key, counts in found.items()]
