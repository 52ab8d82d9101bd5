"""The rows of ``history``: what ended in each minute, ten minutes and hour."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session

#: How many tasks or queues are told of at most.
MOST_NAMES = 1000
#: A count in an array is an integer there.
MOST = 2**31 - 1


@dataclass
class Period:
    """The ends within a time, and how long it had taken; durations in seconds."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    #: Attempts that were followed by another: after an error, after Snooze, after a worker's death.
    retried: int = 0
    snoozed: int = 0
    rescued: int = 0
    #: Of all that succeeded or failed together.
    waited: float = 0.0
    ran: float = 0.0
    #: How many of them are in each bucket of a histogram, to the last that has any.
    waits: list[int] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    #: The most jobs that could run, and that ran, at any look; None without a look.
    ready: int | None = None
    running: int | None = None

    def add(self, other: Period) -> None:
        """Have it comprise another."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.retried += other.retried
        self.snoozed += other.snoozed
        self.rescued += other.rescued
        self.waited += other.waited
        self.ran += other.ran
        self.waits = add_up(self.waits, other.waits)
        self.runs = add_up(self.runs, other.runs)
        self.ready = _most(self.ready, other.ready)
        self.running = _most(self.running, other.running)


def add_up(one: list[int], other: list[int]) -> list[int]:
    """The sums of counts, bucket by bucket; the one may have fewer than the other."""
    if len(one) < len(other):
        one, other = other, one
    return [*(a + b for a, b in zip(one, other, strict=False)), *one[len(other) :]]


def _most(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


class HistoryKey(NamedTuple):
    """A row of a minute: of all jobs, of a task or of a queue."""

    #: ``all``, ``task`` or ``queue``.
    kind: str
    #: Empty for all.
    name: str
    #: When it begins, in seconds since 1970.
    minute: int
    #: No transaction can add to it any more, as far as it was counted.
    is_final: bool = True


class Depth(NamedTuple):
    """How many jobs could run, and how many ran, at a look."""

    kind: str
    name: str
    ready: int
    running: int


class HistoryLook(NamedTuple):
    """When the history was brought up to date, by the server's clock."""

    #: When the present bucket begins.
    at: datetime
    now: datetime
    #: When ends, and jobs in line, were counted last; None for never.
    folded_at: datetime | None
    counted_at: datetime | None
    #: When the first bucket of the width begins that is kept.
    since: datetime | None


class Trace(NamedTuple):
    """A task's or a queue's buckets, in no order and without those in which nothing was."""

    name: str
    #: When each begins, in seconds since 1970.
    times: list[int]
    ended: list[int]
    failed: list[int]
    ready: list[int | None]


class HistoryRows:
    """Statements on what ended by time, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list_names(self) -> set[tuple[str, str]]:
        """The (kind, name) that have a place of their own."""
        return {(kind, name) for kind, name in self._session.fetch("list_history_names")}

    def add(self, since: str, found: Mapping[HistoryKey, Period]) -> None:
        """Add to the minutes; what was recent is so no longer.

        ``since``: the time that counts had come to before.
        """
        calls = [self._session.call("forget_recent_history", since=since)]
        if found:
            keys, periods = list(found), list(found.values())
            calls.append(
                self._session.call(
                    "add_history",
                    kinds=[key.kind for key in keys],
                    names=[key.name for key in keys],
                    minutes=[key.minute for key in keys],
                    finals=[key.is_final for key in keys],
                    succeeded=[each.succeeded for each in periods],
                    failed=[each.failed for each in periods],
                    cancelled=[each.cancelled for each in periods],
                    retried=[each.retried for each in periods],
                    snoozed=[each.snoozed for each in periods],
                    rescued=[each.rescued for each in periods],
                    waited=[each.waited for each in periods],
                    ran=[each.ran for each in periods],
                    waits=[_literal(each.waits) for each in periods],
                    runs=[_literal(each.runs) for each in periods],
                )
            )
        self._session.run(calls)

    def roll(self, since: str, until: str, widths: Mapping[int, int]) -> None:
        """Add up the buckets that are complete at ``until`` and were not at ``since``.

        ``widths``: each with the narrower one that it is made of, narrow ones first.
        """
        self._session.run(
            [
                self._session.call(
                    "roll_history", width=width, parts=parts, since=since, until=until
                )
                for width, parts in widths.items()
            ]
        )

    def prune(self, ages: Mapping[int, float]) -> None:
        """Delete the buckets of each width that are older than so many seconds."""
        self._session.run(
            [
                self._session.call("prune_history", width=width, max_age=age)
                for width, age in ages.items()
            ]
        )

    def sample(self, depths: Collection[Depth]) -> None:
        """Note how many jobs are in line now."""
        self._session.fetch(
            "sample_history",
            kinds=[each.kind for each in depths],
            names=[each.name for each in depths],
            ready=[each.ready for each in depths],
            running=[each.running for each in depths],
        )

    def read(
        self, kind: str, name: str, width: int, buckets: int
    ) -> tuple[HistoryLook | None, list[tuple[datetime, Period]]]:
        """The last ``buckets`` of one task, queue or of all, in parts and without empty ones."""
        look, rows = self._read("read_history", kind=kind, name=name, width=width, buckets=buckets)
        return look, [(row[0], Period(*row[1:])) for row in rows]

    def sums(self, kind: str, width: int, buckets: int, big: int) -> list[tuple[str, Period]]:
        """Each task, or queue, with all of the last buckets; the busiest first.

        ``big``: the width of the buckets by which most of the time is read.
        """
        _, rows = self._read(
            "sum_history", kind=kind, width=width, buckets=buckets, big=big, limit=MOST_NAMES
        )
        return [(row[0], Period(*row[1:])) for row in rows]

    def traces(
        self, kind: str, width: int, buckets: int, big: int, step: int, failures: int = 0
    ) -> tuple[HistoryLook | None, list[Trace]]:
        """Each task's, or queue's, last buckets, ``step`` seconds together, for a small chart.

        Only those of which ``failures`` failed at least.
        """
        look, rows = self._read(
            "trace_history",
            kind=kind,
            width=width,
            buckets=buckets,
            big=big,
            step=step,
            failures=failures,
        )
        return look, [Trace(*row) for row in rows]

    def _read(self, statement: str, **values: Any) -> tuple[HistoryLook | None, list[Row]]:
        session = self._session
        calls = [
            session.call("pin_plans"),
            session.call("look_at_history", width=values["width"]),
            session.call(statement, **values),
        ]
        _, looks, rows = session.retrying(lambda: session.run(calls))
        return HistoryLook(*looks[0]) if looks else None, rows


def _literal(counts: Sequence[int]) -> str:
    return f"{{{','.join(str(min(count, MOST)) for count in counts)}}}"
