"""Add what has ended to the totals and the history, and count what waits.

No job that ends writes a counter. A process looks every few seconds at what has ended since, and
adds it in one transaction; the scrape reads a small table that no pruning takes anything from.

An end counts for good once no transaction can add another before it. Until then it is *recent*:
shown, and counted anew the next time. Which transactions these are is asked of the table's locks.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..db.rows.metrics import NOBODY, Amount, Counted, Ends, Key, Line
from .history import BOUNDS, OTHER, RUNTIMES, WAITS, History, coarser
from .loop import Service

if TYPE_CHECKING:
    from uuid import UUID

    from ..db.database import Database
    from ..db.rows.metrics import Fold as Found

#: The kind of counter by the state that a job ends in.
KINDS = {"completed": "succeeded", "discarded": "failed", "cancelled": "revoked"}
#: How many classes of exceptions are counted apart, for each task and queue.
EXCEPTIONS = 20

#: The bucket of a counter by the one that the ends were counted in.
RUNTIME_OF, WAIT_OF = coarser(BOUNDS, RUNTIMES), coarser(BOUNDS, WAITS)

#: For how many seconds a transaction may have been open before it asks for the lock on the table,
#: and then end a job with the time at which it began: ours do at once.
SLACK = 5.0
#: After how many seconds an open transaction is not waited for any longer: until then each fold
#: counts all that has ended since once more.
LONGEST = 600.0


class Fold(Service):
    """Keep totals, history and lines up to date, one process of all at a time."""

    name = "metrics"
    interval = 5.0
    #: What takes long is done again after so many times as long: 4 percent of one processor.
    pace = 25.0
    #: How often it counts in a system where nothing happens, in seconds.
    idle = 60.0

    def __init__(self, limit: int) -> None:
        #: How many pairs of task and queue are counted apart.
        self._limit = limit
        self._history = History(limit)
        self._is_begun = False

    def run(self, database: Database) -> dict[str, int]:
        """Count, if it is time and no other process does."""
        metrics = database.metrics
        if not self._is_begun:
            metrics.begin_fold()
            self._is_begun = True
        if not metrics.find_news(self.idle):
            return {}
        with database.transaction():
            # A little sooner, or processes that look at the same interval come too early by turns.
            fold = metrics.lock_fold(self.interval * 0.9, self.pace)
            if fold is None:
                return {}
            if fold.is_due:
                now, writers = metrics.find_writers(SLACK)
                until, candidate, holders = advance(fold, now, writers)
                ends = metrics.fold_ends(fold.watermark, until, BOUNDS)
                metrics.add_totals(increments(ends, metrics.list_counted(), self._limit))
                self._history.add(database.history, fold.watermark, until, ends)
                metrics.end_fold(until, candidate, holders)
            if fold.is_count_due:
                began = time.perf_counter()
                lines = lengths(metrics.count_lines())
                metrics.put_lines(lines, time.perf_counter() - began)
                self._history.sample(database.history, lines)
        return {}

    def next_delay(self) -> float:
        """At once when the worker starts."""
        return self.interval if self._is_begun else 0.0


def advance(fold: Found, now: str, writers: Sequence[str]) -> tuple[str, str, list[str]]:
    """The time before which ends are final; and the next such time, with who must have ended then.

    The transactions that wrote jobs when the candidate was found are the only ones that can still
    write an end before it.
    """
    if fold.candidate is None or fold.candidate_age is None:
        return fold.watermark, now, list(writers)
    left = [writer for writer in fold.holders if writer in writers]
    if left and fold.candidate_age < LONGEST:
        return fold.watermark, fold.candidate, left
    return fold.candidate, now, list(writers)


def increments(
    ends: Iterable[Ends], counted: set[tuple[str, str, str]], limit: int
) -> dict[Key, Amount]:
    """The increment of each counter; ``counted`` are the names that have counters already.

    Up to ``limit`` pairs of task and queue are counted apart; those beyond, together.
    """
    names = Names(counted, limit)
    found: dict[Key, list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def add(each: Ends, kind: str, bucket: int = 0, micros: int = 0, exception: str = "") -> None:
        key = Key(*names.of(each.task, each.queue, exception), kind, bucket)
        amount = found[key]
        place = 0 if each.is_final else 2
        amount[place] += each.number
        amount[place + 1] += micros

    for each in sorted(ends):
        kind = KINDS.get(each.state, each.state)
        add(each, kind, exception=each.exception if kind == "failed" else "")
        if kind == "revoked":
            continue  # the last attempt, if there was one, may have been retried
        if kind not in KINDS.values():
            add(each, "received")
        elif each.has_run:
            add(each, "received")
            add(each, "wait", WAIT_OF[each.wait_bucket], each.wait_micros)
            if kind == "succeeded":
                add(each, "runtime", RUNTIME_OF[each.runtime_bucket], each.runtime_micros)
    return {key: Amount(*amount) for key, amount in found.items()}


class Names:
    """Which tasks, queues and exceptions are counted apart: whichever came first, for good."""

    def __init__(self, counted: set[tuple[str, str, str]], limit: int) -> None:
        self._limit = limit
        self._exceptions: dict[tuple[str, str], set[str]] = {}
        for task, queue, exception in counted:
            self._exceptions.setdefault((task, queue), set()).add(exception)

    def of(self, task: str, queue: str, exception: str) -> tuple[str, str, str]:
        """The names that it is counted by."""
        known = self._exceptions.get((task, queue))
        if known is None:
            if len(self._exceptions) >= self._limit:
                task = queue = OTHER
            known = self._exceptions.setdefault((task, queue), set())
        if exception not in known and exception and len(known - {"", OTHER}) >= EXCEPTIONS:
            exception = OTHER
        known.add(exception)
        return task, queue, exception


def lengths(counted: Iterable[Counted]) -> list[Line]:
    """The jobs of each queue by state, and those that run by node.

    Of a line that was not read to its end the rest is estimated: as many jobs for each place in
    line as in its head. Places are given out to all queues by turns.
    """
    jobs: dict[tuple[str, str, UUID], int] = defaultdict(int)
    oldest: dict[tuple[str, str, UUID], float] = defaultdict(float)
    for each in counted:
        key = (each.queue, each.state, each.node or NOBODY)
        jobs[key] += each.jobs
        if each.state == "available" and each.last < each.end:
            span = max(1, each.last - each.first)
            jobs[key] += round((each.end - each.last) * min(1.0, (each.jobs - 1) / span)) or 1
        oldest[key] = max(oldest[key], each.oldest or 0.0)
    return [Line(*key, jobs[key], oldest[key]) for key in jobs]
