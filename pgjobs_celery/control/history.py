"""The ends of jobs over time, and how long these waited and ran: of all, by task and by queue.

Read from the few rows that a service of the workers keeps by time, and not from the jobs. So it
outlives their rows, and costs the same however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import accumulate
from typing import TYPE_CHECKING

from ..db.rows.history import HistoryLook, Period, Trace
from ..errors import InvalidOption
from ..job.checks import did_you_mean
from ..maintenance.history import BOUNDS, DAY, HOUR, LONGEST_NAME, MINUTE, OTHER, TEN_MINUTES

if TYPE_CHECKING:
    from ..db.database import Database

__all__ = [
    "BOUNDS", "OTHER", "WINDOWS", "Failing", "Line", "Measured", "Series", "Window", "failing",
    "failing_tasks", "join", "lines", "percentile", "series", "table", "window_named",
]  # fmt: skip

#: Which part of a task's jobs must fail, and how many of them, to be told of.
FAILING_SHARE, FEWEST_FAILURES = 0.1, 3


@dataclass(frozen=True)
class Window:
    """A time up to now, and how long the buckets are that it is looked at in."""

    name: str
    #: The length of a bucket, in seconds.
    width: int
    #: How many buckets, the present one included.
    buckets: int
    #: How many seconds are one point of a small chart.
    step: int
    #: The width of the buckets by which a sum of all of it is read, for there are few of them.
    big: int

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.width * self.buckets


#: The windows by name.
WINDOWS: Mapping[str, Window] = {
    each.name: each
    for each in (
        Window("hour", MINUTE, 60, 2 * MINUTE, TEN_MINUTES),
        Window("day", TEN_MINUTES, 144, HOUR, HOUR),
        Window("week", HOUR, 168, 6 * HOUR, DAY),
    )
}  # fmt: skip


def window_named(name: str) -> Window:
    """The window of that name. Raises InvalidOption for a name that is not one of WINDOWS."""
    if name not in WINDOWS:
        raise InvalidOption(
            f"a range is hour, day or week, not {name!r}{did_you_mean(name, WINDOWS)}"
        )
    return WINDOWS[name]


def percentile(
    counts: Sequence[int], share: float, bounds: Sequence[float] = BOUNDS
) -> float | None:
    """The value below which ``share`` of what was counted lies, in seconds; None where nothing was.

    ``counts`` tells how many values lie in each bucket: above the bound before, and at most at its
    own. Within a bucket the values are taken to be spread evenly, as Prometheus's
    ``histogram_quantile`` does; the lowest begins at 0. What lies above the last bound counts as
    that bound, so that the answer is "at least" then.

    >>> percentile([0, 10], 0.5, bounds=(1.0, 2.0))
    1.5
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank = share * total
    for bucket, below in enumerate(accumulate(counts)):
        if below >= rank and counts[bucket] > 0:
            break
    if bucket >= len(bounds):
        return bounds[-1]
    low = bounds[bucket - 1] if bucket else 0.0
    within = (rank - (below - counts[bucket])) / counts[bucket]
    return low + (bounds[bucket] - low) * max(0.0, within)


@dataclass(frozen=True)
class Measured:
    """The ends within a time; durations in seconds."""

    period: Period
    #: When it began; None for the whole of a window.
    at: datetime | None = None

    @property
    def succeeded(self) -> int:
        """Jobs that completed."""
        return self.period.succeeded

    @property
    def failed(self) -> int:
        """Jobs that failed for good."""
        return self.period.failed

    @property
    def cancelled(self) -> int:
        """Jobs that were cancelled, expired or purged."""
        return self.period.cancelled

    @property
    def retried(self) -> int:
        """Attempts that were followed by another: after an error, or after their worker's death."""
        return self.period.retried + self.period.rescued

    @property
    def ended(self) -> int:
        """Jobs that have ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def failure_share(self) -> float | None:
        """Which part of the jobs that ran to their end has failed, 0 to 1; None where none did."""
        done = self.succeeded + self.failed
        return self.failed / done if done else None

    @property
    def ready(self) -> int | None:
        """The most jobs that could run at any look; None without a look."""
        return self.period.ready

    @property
    def running(self) -> int | None:
        """The most jobs that ran at any look; None without a look."""
        return self.period.running

    @property
    def mean_run(self) -> float | None:
        """How long the last attempts took on the average."""
        done = sum(self.period.runs)
        return self.period.ran / done if done else None

    def wait(self, share: float) -> float | None:
        """How long jobs waited from their due time to their last attempt; 0.95: 95 % less long."""
        return percentile(self.period.waits, share)

    def run(self, share: float) -> float | None:
        """How long the last attempts of jobs took that succeeded or failed."""
        return percentile(self.period.runs, share)


@dataclass(frozen=True)
class Series:
    """The ends in each bucket of a window, and in all of it."""

    window: Window
    #: One for each bucket, the oldest first; the last one is not over. Empty where nothing was ever
    #: counted.
    points: tuple[Measured, ...] = ()
    #: Of all of it.
    total: Measured = field(default_factory=lambda: Measured(Period()))
    #: When jobs that have ended were counted last; None for never.
    counted_at: datetime | None = None
    #: Seconds since then.
    age: float | None = None
    #: When the first bucket begins that is known; what lies before was not counted, or is deleted.
    since: datetime | None = None


@dataclass(frozen=True)
class Line:
    """A task or a queue: what ended in each bucket of a window, for a small chart."""

    name: str
    #: When each bucket begins.
    times: tuple[datetime, ...]
    #: How many ran to their end in each, and how many of them failed.
    ended: tuple[int, ...]
    failed: tuple[int, ...]
    #: The most that were ready in each; None where it was not looked.
    ready: tuple[int | None, ...]


@dataclass(frozen=True)
class Failing:
    """A task of whose jobs many fail, up to now."""

    task: str
    #: Since when: the begin of the bucket in which it began.
    since: datetime
    #: How many failed since then, and how many ran to their end.
    failed: int
    ended: int
    #: It began before the time that was looked at, or with it.
    is_older: bool = False

    @property
    def share(self) -> float:
        """Which part of them failed, 0 to 1."""
        return self.failed / self.ended


def series(database: Database, window: Window, kind: str = "all", name: str = "") -> Series:
    """The ends in each bucket of a window: ``kind`` is ``all``, or ``task`` or ``queue``.

    ``name`` is that of the task or queue; those beyond ``pgjobs_metrics_limit`` are counted
    together, as ``other``. Reads some hundred rows at most.
    """
    look, parts = database.history.read(kind, name[:LONGEST_NAME], window.width, window.buckets)
    return Series(window) if look is None else join(window, look, parts)


def join(window: Window, look: HistoryLook, parts: Iterable[tuple[datetime, Period]]) -> Series:
    """The buckets in order, those in which nothing ended too."""
    found = {time: Period() for time in times_of(window, look.at)}
    total = Period()
    for time, period in parts:
        if time in found:  # an end may bear a time that is still to come
            found[time].add(period)
            total.add(period)
    folded = look.folded_at
    return Series(
        window,
        tuple(Measured(period, time) for time, period in found.items()),
        Measured(total),
        folded,
        None if folded is None else max(0.0, (look.now - folded).total_seconds()),
        look.since,
    )


def times_of(window: Window, at: datetime) -> list[datetime]:
    """When the buckets begin, of which the last begins at ``at``."""
    width = timedelta(seconds=window.width)
    return [at - width * back for back in range(window.buckets - 1, -1, -1)]


def table(database: Database, window: Window, kind: str) -> dict[str, Measured]:
    """Each task, or each queue, with what ended in the whole window; the busiest first."""
    sums = database.history.sums(kind, window.width, window.buckets, window.big)
    return {name: Measured(period) for name, period in sums}


def lines(
    database: Database, window: Window, kind: str, *, step: int = 0, failures: int = 0
) -> dict[str, Line]:
    """Each task, or each queue, in steps of so many seconds; the window's own if none is given.

    Only those of which ``failures`` jobs failed at least.
    """
    step = step or window.step
    # A point is made of whole buckets.
    big = max(width for width in (window.width, MINUTE, HOUR) if width <= step)
    look, traces = database.history.traces(kind, window.width, window.buckets, big, step, failures)
    if look is None:
        return {}
    last = datetime.fromtimestamp(look.at.timestamp() // step * step, timezone.utc)
    times = times_of(Window(window.name, step, window.seconds // step, step, step), last)
    looked: set[datetime] = set()
    if kind == "queue":
        # A queue that is not there at a look was empty then.
        size = timedelta(seconds=step)
        looked = {
            last + (point.at - last) // size * size
            for point in series(database, window).points
            if point.at is not None and point.ready is not None
        }
    return {
        trace.name: as_line(trace, times, [time in looked for time in times]) for trace in traces
    }


def as_line(trace: Trace, times: Sequence[datetime], looked: Sequence[bool] = ()) -> Line:
    """A line with all buckets, in order; ``looked``: in which of them queues were looked at."""
    ended = dict(zip(trace.times, trace.ended, strict=True))
    failed = dict(zip(trace.times, trace.failed, strict=True))
    ready = dict(zip(trace.times, trace.ready, strict=True))
    seconds = [round(time.timestamp()) for time in times]
    waiting = [ready.get(each) for each in seconds]
    for place, is_known in enumerate(looked):
        if is_known and waiting[place] is None:
            waiting[place] = 0
    return Line(
        trace.name,
        tuple(times),
        tuple(ended.get(each, 0) for each in seconds),
        tuple(failed.get(each, 0) for each in seconds),
        tuple(waiting),
    )


def failing_tasks(database: Database) -> list[Failing]:
    """The tasks of whose jobs many fail now, the worst first; looks back for a day."""
    hour, day = WINDOWS["hour"], WINDOWS["day"]
    found = _failing_in(database, hour)
    if any(each is not None and each.is_older for each in found.values()):
        longer = _failing_in(database, day)
        for name, each in found.items():
            if each is not None and each.is_older and longer.get(name) is not None:
                found[name] = longer[name]
    return sorted(
        (each for each in found.values() if each is not None),
        key=lambda each: (-each.share * each.failed, each.task),
    )


def _failing_in(database: Database, window: Window) -> dict[str, Failing | None]:
    found = lines(database, window, "task", step=window.width, failures=FEWEST_FAILURES)
    return {name: failing(line) for name, line in found.items()}


def failing(line: Line) -> Failing | None:
    """Since when a task fails, if it does: None where it does not, or no longer.

    From the last failure backwards to where it began: further back lies a time in which so many
    jobs succeeded, one after the other, that with the share of failures since then one of them
    would have failed in 95 of 100 cases ("rule of three": 3 / share). As many since the last
    failure, and it is over.
    """
    begin: int | None = None
    failed = ended = since_failure = 0
    for bucket in range(len(line.times) - 1, -1, -1):
        bad, done = line.failed[bucket], line.ended[bucket]
        if not bad:
            since_failure += done
            continue
        share = (failed + bad) / (ended + done)
        if since_failure * share > 3:
            break
        begin, failed = bucket, failed + bad
        ended, since_failure = ended + done + since_failure, 0
    if begin is None or failed < FEWEST_FAILURES or failed < FAILING_SHARE * ended:
        return None
    # Nothing before it says that it went well once.
    return Failing(line.name, line.times[begin], failed, ended, is_older=since_failure == 0)
