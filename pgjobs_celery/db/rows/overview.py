"""The jobs as a whole, at a price that a look every few seconds may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .nodes import read_object

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session

#: How many queues are found at most.
MOST_LINES = 2000
#: How many entries of all lines together are looked at, and of each at most and at least.
ALL_ENTRIES, MOST_ENTRIES, FEWEST_ENTRIES = 50_000, 10_000, 50
#: How many of the newest rows, and of the newest ends, are looked at.
NEWEST = 2000
#: How many failures are told.
FEW = 50


class LineRow(NamedTuple):
    """How a queue stands, as far as it was looked through."""

    queue: str
    ready: int
    running: int
    #: There is more of it.
    is_cut: bool
    #: Seconds since the oldest ready job could have run; None where none is ready.
    oldest_wait: float | None


class FailureRow(NamedTuple):
    """A job that has failed for good, so many seconds ago."""

    task_id: str
    task: str
    queue: str
    worker: str | None
    seconds: float
    #: The last entry of its errors; empty without one.
    error: dict[str, Any]


class Flow(NamedTuple):
    """How many jobs came to a point within the last seconds."""

    jobs: dict[str, int]
    failed: dict[str, int]
    #: How many seconds that is: fewer than were asked for where more came than are looked at.
    seconds: float


class OverviewRows:
    """Statements on all jobs, one method each: they lock nothing and are bounded."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_lines(self) -> list[str]:
        """The queues that hold jobs which run or may run."""
        return [queue for (queue,) in self._read("find_lines", limit=MOST_LINES)]

    def survey_lines(self, queues: Sequence[str], entries: int = ALL_ENTRIES) -> list[LineRow]:
        """How these queues stand; of many less is counted of each: ``entries`` of all together."""
        if not queues:
            return []
        depth = min(MOST_ENTRIES, max(FEWEST_ENTRIES, entries // len(queues)))
        return [
            LineRow(*row) for row in self._read("survey_lines", queues=list(queues), depth=depth)
        ]

    def count_ends(self, seconds: float) -> Flow:
        """How many jobs have ended within so many seconds, or less."""
        rows = self._read("count_ends", seconds=seconds, depth=NEWEST)
        ended = {queue: jobs for queue, jobs, _, _ in rows}
        failed = {queue: count for queue, _, count, _ in rows if count}
        return Flow(ended, failed, _span(ended, [row[-1] for row in rows], seconds))

    def count_beginnings(self, seconds: float) -> Flow:
        """How many jobs were published within so many seconds, or less."""
        rows = self._read("count_beginnings", seconds=seconds, depth=NEWEST)
        published = {queue: jobs for queue, jobs, _ in rows}
        return Flow(published, {}, _span(published, [row[-1] for row in rows], seconds))

    def list_failures(self) -> list[FailureRow]:
        """The jobs that were the last to fail for good, the newest first."""
        rows = self._read("list_failures", depth=NEWEST, limit=FEW)
        return [FailureRow(*row)._replace(error=read_object(row[-1])) for row in rows]

    def _read(self, name: str, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, **values)]
        return session.retrying(lambda: session.run(calls))[1]


def _span(jobs: dict[str, int], firsts: Sequence[float], seconds: float) -> float:
    if sum(jobs.values()) < NEWEST:
        return seconds
    return max(0.001, *firsts)
