"""The rows of ``jobs`` as a list for people shows them, at a price that is bounded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ...job.states import State
from .receipts import by_id

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session

#: How many entries at the heads of all lines together are looked at, and at least of each.
ALL_HEADS, FEWEST_HEADS = 10_000, 20
#: How many ids from a beginning on are looked at.
NEIGHBOURS = 1000

#: The filters as :meth:`pgjobs_celery.control.filters.Filters.parameters` gives them.
Parameters = Mapping[str, Any]


#: Of all rows, in no order.
_EVERYWHERE: Parameters = dict.fromkeys(("after", "until", "newest", "limit"))


class ListedJob(NamedTuple):
    """A job as a line of a list; of what is large, the beginning or nothing."""

    #: The number of its row.
    id: int
    task_id: str
    task: str
    queue: str
    state: State
    attempt: int
    max_attempts: int
    priority: int
    tags: tuple[str, ...]
    #: None if it is large.
    meta: dict[str, Any] | None
    #: None if they are large, or not plain JSON.
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    #: Of the message's body, in bytes; None without one.
    size: int | None
    #: The class of the last error, and the beginning of its message.
    error: str | None
    error_message: str | None
    inserted_at: datetime | None
    scheduled_at: datetime | None
    attempted_at: datetime | None
    finished_at: datetime | None
    attempted_by: str | None
    #: It was told to stop, and has not yet.
    is_being_cancelled: bool
    #: The state that the running task has reported, and the object that it reported with it.
    reported_state: str | None
    reported: dict[str, Any]
    #: False for the result of a task that went through another broker.
    has_message: bool


class Span(NamedTuple):
    """Rows that follow each other."""

    lowest: int
    highest: int
    #: How many they are; without any, the others mean nothing.
    rows: int


class EndedSpan(NamedTuple):
    """Jobs that have finished one after the other."""

    first: datetime | None
    last: datetime | None
    rows: int


class Ways(NamedTuple):
    """How many rows each index leads to, up to a depth."""

    ready: int
    due: int
    ended: int
    #: With the errors and fingerprints that the filters name, and of the workflows.
    failed: int
    rooted: int


class Words(NamedTuple):
    """Of one row, what a filter can name."""

    task: str
    queue: str
    tags: list[str]
    worker: str | None
    kwargs: dict[str, Any]
    meta: dict[str, Any]


class Listing:
    """Statements on lists of jobs, one method each: they lock nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_page(
        self, filters: Parameters, *, limit: int, newest: bool, is_few: bool
    ) -> list[int]:
        """The numbers of up to ``limit`` jobs, the newest or the oldest first.

        In the order of the rows, unless ``is_few``: then all that match are looked at, by whatever
        index leads to them.
        """
        values = {
            "after": None, "until": None, **filters, "page": limit, "is_newest": newest,
            "newest": None if is_few else newest, "limit": None if is_few else limit,
        }  # fmt: skip
        return [id for (id,) in self._read("find_page", values)]

    def find_ends(
        self, filters: Parameters, at: datetime | None, row: int, *, limit: int, newest: bool
    ) -> list[tuple[int, datetime]]:
        """Up to ``limit`` jobs that have finished, behind one, and the times of their ends."""
        values = {
            **_EVERYWHERE, **filters, "page": limit, "is_newest": newest, "at": at, "row": row,
        }  # fmt: skip
        return [(id, finished_at) for id, finished_at in self._read("find_ends", values)]

    def show_jobs(self, ids: Sequence[int]) -> list[ListedJob]:
        """The jobs with these numbers."""
        return [_listed(row) for row in self._read("show_jobs", {"ids": list(ids)})] if ids else []

    def span_jobs(self, start: int, limit: int, *, newest: bool) -> Span:
        """The ids of up to ``limit`` rows from ``start`` on, downwards if ``newest``."""
        values = {"start": start, "limit": limit, "newest": newest}
        ((lowest, highest, rows),) = self._read("span_jobs", values)
        return Span(lowest or 0, highest or 0, rows)

    def span_ends(self, start: datetime, limit: int, *, newest: bool, is_behind: bool) -> EndedSpan:
        """The times between which up to ``limit`` jobs have finished, from ``start`` on."""
        values = {"start": start, "limit": limit, "newest": newest, "is_behind": is_behind}
        return EndedSpan(*self._read("span_ends", values)[0])

    def measure_ways(
        self, filters: Parameters, depth: int, *, is_ready: bool, is_due: bool, is_ended: bool
    ) -> Ways:
        """How many rows the indexes lead to that these filters leave."""
        is_failed = filters["error"] is not None or filters["fingerprint"] is not None
        values = {
            **filters, "depth": depth, "is_ready": is_ready, "is_due": is_due, "is_ended": is_ended,
            "is_failed": is_failed,
        }  # fmt: skip
        return Ways(*self._read("measure_ways", values)[0])

    def count_matched(self, filters: Parameters) -> dict[State, int]:
        """How many there are by state."""
        rows = self._read("count_matched", {**_EVERYWHERE, **filters})
        return {State(state): count for state, count in rows}

    def count_running(self, queues: Sequence[str]) -> tuple[int, bool]:
        """How many jobs run, near the heads of these lines, and whether there may be more."""
        rows = self._read("survey_lines", {"queues": list(queues), "depth": _depth(queues)})
        return sum(row[2] for row in rows), any(row[3] and not row[1] for row in rows)

    def find_running(self, queues: Sequence[str], limit: int) -> list[str]:
        """The task ids of jobs that run, near the heads of these lines."""
        values = {"queues": list(queues), "depth": _depth(queues), "limit": limit}
        return [row[1] for row in self._read("list_held", values)]

    def estimate_states(self) -> dict[State, float]:
        """About how many are in each state; those only that the statistics know."""
        known = {state.value for state in State}
        rows = self._read("estimate_states", {})
        return {State(state): share for state, share in rows if state in known}

    def find_beginnings(self, beginning: str, limit: int) -> list[str]:
        """Up to ``limit`` task ids that begin so."""
        values = {"beginning": beginning, "depth": max(limit, NEIGHBOURS), "limit": limit}
        return [task_id for (task_id,) in self._read("find_beginnings", values)]

    def list_words(self, depth: int) -> list[Words]:
        """The names in the newest rows."""
        return [
            Words(task, queue, tags, worker, _object(kwargs) or {}, _object(meta) or {})
            for task, queue, tags, worker, kwargs, meta in self._read(
                "list_words", {"depth": depth}
            )
        ]

    def _read(self, name: str, values: Parameters) -> list[Row]:
        session = self._session
        with session.joining():
            values = by_id(session, values)
            calls: Sequence[Any] = [session.call("plan_lists"), session.call(name, **values)]
            return session.retrying(lambda: session.run(calls)[1])


def _depth(queues: Sequence[str]) -> int:
    return max(FEWEST_HEADS, ALL_HEADS // max(1, len(queues)))


def _listed(row: Row) -> ListedJob:
    job = ListedJob(*row)
    return job._replace(
        state=State(job.state),
        tags=tuple(job.tags),
        meta=_object(row[9]),
        args=_decoded(row[10], list),
        kwargs=_object(row[11]),
        reported=_object(row[-2]) or {},
    )


def _object(text: str | None) -> dict[str, Any] | None:
    value: dict[str, Any] | None = _decoded(text, dict)
    return value


def _decoded(text: str | None, kind: type) -> Any:
    """JSON of one kind; None where it is another, or nothing that Python can hold."""
    try:
        value = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None
