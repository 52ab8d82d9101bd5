"""The rows of ``totals``, ``lines`` and ``fold``: what a scrape reads, and what makes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from ..session import Session

#: How many workers, or apps with schedules, a scrape shows.
MOST_WORKERS, MOST_APPS = 1000, 100
#: How many jobs are counted one by one, in all lines together, and how many lines.
DEPTH, MOST_LINES = 50_000, 10_000
#: Of jobs that no node holds.
NOBODY = UUID(int=0)


class Fold(NamedTuple):
    """How far the ends are counted; times as PostgreSQL writes them."""

    watermark: str
    #: The watermark that may be next, how many seconds ago it was found, and the transactions that
    #: could write an end before it.
    candidate: str | None
    holders: list[str]
    candidate_age: float | None
    #: Whether it is time to fold the ends, and to count the lines.
    is_due: bool
    is_count_due: bool


class Ends(NamedTuple):
    """Ends, or attempts that were retried, which are alike in all that is counted."""

    task: str
    queue: str
    #: The job's; or ``retried``, ``snoozed``, ``rescued``, which are no end.
    state: str
    exception: str
    #: No transaction can add to them any more.
    is_final: bool
    has_run: bool
    runtime_bucket: int
    wait_bucket: int
    number: int
    runtime_micros: int
    wait_micros: int
    #: In which minute, in seconds since 1970; 0 for none: the time of the end is still to come.
    minute: int = 0


class Key(NamedTuple):
    """One counter, or one bucket of a histogram."""

    task: str
    queue: str
    exception: str
    kind: str
    bucket: int = 0


class Amount(NamedTuple):
    """The increment of a counter: for good, and for as long as it may change."""

    number: int = 0
    micros: int = 0
    recent_number: int = 0
    recent_micros: int = 0


class Counted(NamedTuple):
    """Jobs at the head of a line, those that wait or those that one node runs."""

    queue: str
    state: str
    node: UUID | None
    jobs: int
    #: For how many seconds the oldest had been due; None where no time says so.
    oldest: float | None = None
    #: The place in line of the first of them and the last, and of the last job of the line.
    first: int = 0
    last: int = 0
    end: int = 0


class Line(NamedTuple):
    """The jobs of a queue in one state."""

    queue: str
    #: None for a queue without jobs.
    state: str | None
    #: The node that runs them.
    node: UUID | None
    jobs: int
    #: For how many seconds the oldest had been due when they were counted.
    oldest: float
    is_paused: bool = False
    concurrency: int | None = None


class WorkerRow(NamedTuple):
    """A process that claims jobs."""

    node: UUID
    name: str
    lost_claims: int
    is_alive: bool
    queues: list[str]
    #: How many of its tasks may run at once; 0 where it has not told.
    slots: int


class Lateness(NamedTuple):
    """The entries of an app's beats."""

    app: str
    entries: int
    paused: int
    late: float


class Server(NamedTuple):
    """Facts about the server; None for those that the role may not see. Ages in seconds."""

    live_rows: int | None
    dead_rows: int | None
    bytes: int
    xmin_age: int | None
    transaction_age: float | None
    notify_usage: float
    connections: int
    max_connections: int
    fold_age: float | None
    count_age: float | None
    #: How many steps and signals were written since the server's statistics began.
    steps: int
    signals: int


class Waiting(NamedTuple):
    """How many jobs of a task sleep, or wait for a signal."""

    task: str
    queue: str
    is_for_signal: bool
    jobs: int


class Metrics:
    """Statements on what is counted, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begin_fold(self) -> None:
        """Have the row there that says how far the ends are counted."""
        self._session.fetch("begin_fold")

    def find_news(self, idle: float) -> bool:
        """Whether there is anything to count; or nothing was for ``idle`` seconds."""
        calls = [self._session.call("pin_plans"), self._session.call("find_news", idle=idle)]
        rows = self._session.run(calls)[1]
        return not rows or bool(rows[0][0])

    def lock_fold(self, interval: float, pace: float) -> Fold | None:
        """Be the one process that counts, to the end of this transaction; None if another is.

        Ends are due after ``interval`` seconds, lines too, but each at the earliest after ``pace``
        times as long as it took last.
        """
        rows = self._session.fetch("lock_fold", interval=interval, pace=pace)
        return Fold(*rows[0]) if rows else None

    def find_writers(self, slack: float) -> tuple[str, list[str]]:
        """The time ``slack`` seconds ago, and the transactions that write jobs now."""
        [(now, writers)] = self._session.fetch("find_writers", slack=slack)
        return now, writers

    def fold_ends(self, since: str, until: str, bounds: Sequence[float]) -> list[Ends]:
        """What has ended from ``since`` on, in groups; for good if before ``until``.

        ``bounds`` are the upper ones of the buckets that runtimes and waits fall into, in seconds;
        a value at a bound is below it. Takes away what was written down of ends that no row shows.
        """
        values = [math.nextafter(bound, math.inf) for bound in bounds]
        rows = self._session.run(
            [
                self._session.call("pin_plans"),
                self._session.call("fold_ends", since=since, until=until, bounds=values),
            ]
        )[1]
        return [Ends(*row) for row in rows]

    def list_counted(self) -> set[tuple[str, str, str]]:
        """The (task, queue, exception) that have counters of their own."""
        return {(task, queue, name) for task, queue, name in self._session.fetch("list_counted")}

    def add_totals(self, amounts: dict[Key, Amount]) -> None:
        """Add to the counters; what was recent before is so no longer."""
        self._session.fetch("forget_recent")
        if not amounts:
            return
        keys, values = list(amounts), list(amounts.values())
        self._session.fetch(
            "add_totals",
            tasks=[key.task for key in keys],
            queues=[key.queue for key in keys],
            exceptions=[key.exception for key in keys],
            kinds=[key.kind for key in keys],
            buckets=[key.bucket for key in keys],
            counts=[amount.number for amount in values],
            micros=[amount.micros for amount in values],
            recent_counts=[amount.recent_number for amount in values],
            recent_micros=[amount.recent_micros for amount in values],
        )

    def add_throttled(self, counts: Mapping[tuple[str, str], int], limit: int, other: str) -> None:
        """Add looks at lanes that left jobs waiting, by queue and reason.

        Of more queues than ``limit`` the rest are counted as ``other``.
        """
        self._session.fetch(
            "add_throttled",
            queues=[queue for queue, _ in counts],
            reasons=[reason for _, reason in counts],
            counts=list(counts.values()),
            limit=limit,
            other=other,
        )

    def end_fold(self, watermark: str, candidate: str | None, holders: Sequence[str]) -> None:
        """Write down how far the ends are counted now."""
        self._session.fetch(
            "end_fold", watermark=watermark, candidate=candidate, holders=list(holders)
        )

    def count_lines(self) -> list[Counted]:
        """Count the jobs that have not ended, as far as that is done quickly."""
        return [
            Counted(*row)
            for row in self._session.run(
                [
                    self._session.call("pin_plans"),
                    self._session.call("count_lines", depth=DEPTH, most=MOST_LINES),
                ]
            )[1]
        ]

    def put_lines(self, lines: Sequence[Line], seconds: float) -> None:
        """Keep what was counted; ``seconds``: how long that took."""
        self._session.fetch("forget_lines")
        self._session.fetch(
            "put_lines",
            queues=[line.queue for line in lines],
            states=[line.state for line in lines],
            nodes=[line.node or NOBODY for line in lines],
            jobs=[line.jobs for line in lines],
            oldest=[line.oldest for line in lines],
            seconds=seconds,
        )

    def list_totals(self) -> list[tuple[Key, dict[int, int], float]]:
        """Each counter with its count by bucket, and the seconds that go with it."""
        return [
            (Key(*names), dict(zip(buckets, counts, strict=True)), float(micros) / 1e6)
            for *names, buckets, counts, micros in self._session.fetch("list_totals")
        ]

    def list_lines(self) -> list[Line]:
        """The queues, and the jobs in them that have not ended, as they were counted."""
        return [Line(*row) for row in self._session.fetch("list_lines")]

    def list_workers(self) -> list[WorkerRow]:
        """The processes that claim jobs, MOST_WORKERS at most."""
        rows = self._session.fetch("list_workers", limit=MOST_WORKERS)
        return [WorkerRow(*row) for row in rows]

    def list_lateness(self) -> list[Lateness]:
        """How late the entries of each app are, of MOST_APPS at most."""
        rows = self._session.fetch("list_lateness", limit=MOST_APPS)
        return [Lateness(*row) for row in rows]

    def count_waits(self, depth: int) -> list[Waiting]:
        """The jobs that sleep or wait, up to so many."""
        return [Waiting(*row) for row in self._session.fetch("count_waits", depth=depth)]

    def count_signals(self, depth: int) -> int:
        """The signals that no job has taken, up to so many."""
        return int(self._session.fetch("count_signals", depth=depth)[0][0])

    def look_at_server(self) -> Server:
        """The server, as far as jobs depend on it."""
        return Server(*self._session.fetch("look_at_server")[0])
