"""Lists of jobs for people: pages that stay where they are, and counts, each at a bounded price.

Pages go by the number of the row, never by time or by an offset: what is published meanwhile moves
nothing, and of two jobs of the same second none is left out. Filters to which no index leads are
tried on the newest rows, and whoever reads the list is told how far that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..errors import InvalidOption
from ..job.checks import is_whole_number
from ..job.states import FINAL, State
from ..scopes.steady import monotonic
from .filters import Filters
from .search import Search, paths

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.listing import ListedJob, Listing, Span, Ways

#: How many jobs a page has.
PAGE = 40
MOST = 500
#: Where the indexes lead to fewer rows than this, all of them are looked at.
DEPTH = 10_000
#: The same for filters that open the message of each row.
DEPTH_OF_MESSAGES = 1000
#: Otherwise so many of the newest at most, and for about so many seconds.
WINDOW = 100_000
SECONDS = 0.08
#: Of how many rows the first step is, and the largest.
FIRST_STEP, LARGEST_STEP = 1000, 25_000
#: How many ids with one beginning are found at most.
MOST_IDS = 100

READY = frozenset({State.AVAILABLE, State.EXECUTING})
DUE = frozenset({State.SCHEDULED, State.RETRYABLE})

#: What opens the message of each row, or JSON in it.
_SLOW = frozenset({"args", "kwargs", "meta", "stamps"})
_LARGEST_ID = 2**63 - 1

Clock = Callable[[], float]


class Count(NamedTuple):
    """A number of jobs, and how exact it is."""

    number: int
    #: ``least``: there may be more.
    kind: Literal["exact", "about", "least"] = "exact"

    def __str__(self) -> str:
        if self.kind == "about":
            return f"about {rounded(self.number)}"
        return f"{self.number:,}{'+' if self.kind == 'least' else ''}"

    def plus(self, other: Count) -> Count:
        """The sum: no more exact than either."""
        kinds = {self.kind, other.kind}
        kind: Literal["exact", "about", "least"] = (
            "about" if "about" in kinds else "least" if "least" in kinds else "exact"
        )
        return Count(self.number + other.number, kind)


class JobPage(NamedTuple):
    """A page of a list, the newest first."""

    jobs: list[ListedJob]
    #: ``before`` of the next page, ``after`` of the previous one; None where there is none.
    older: int | None = None
    newer: int | None = None
    #: How many rows were looked at, where there are more that were not; None if all were.
    looked: int | None = None


class Found(NamedTuple):
    """What a search came to."""

    filters: Filters
    #: More ids begin so than are looked at.
    is_cut: bool = False


@dataclass(frozen=True)
class Suggestions:
    """What can be filtered by, as far as the newest rows tell; what is frequent comes first."""

    tasks: list[str]
    queues: list[str]
    tags: list[str]
    workers: list[str]
    #: Into arguments and meta: ``kwargs.user_id``.
    paths: list[str]


def rounded(number: float) -> str:
    """About so many: ``1.2 M``, ``120,000``, ``12``."""
    if number >= 999_500:
        return f"{number / 1e6:,.1f} M" if number < 99_950_000 else f"{number / 1e6:,.0f} M"
    digits = max(0, len(str(int(number))) - 2)
    return f"{round(number, -digits):,.0f}"


def find(database: Database, search: Search) -> Found:
    """The filters that a search means, with the ids that begin as its words say."""
    if not search.beginnings:
        return Found(search.filters)
    ids: set[str] = set()
    is_cut = False
    for beginning in search.beginnings:
        found = database.listing.find_beginnings(beginning, MOST_IDS + 1)
        ids |= set(found[:MOST_IDS])
        is_cut |= len(found) > MOST_IDS
    return Found(search.filters.narrow(id=ids), is_cut)


# Pages


def list_page(
    database: Database,
    filters: Filters,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int = PAGE,
    seconds: float = SECONDS,
    clock: Clock = monotonic,
) -> JobPage:
    """The newest jobs that match; those published before row ``before``, or next after ``after``.

    Looks at the newest rows for about ``seconds`` where no index leads to them; ``older`` then goes
    on from there. Raises InvalidOption for a cursor or a limit that is none.
    """
    for name, value in (("before", before), ("after", after)):
        if value is not None and not is_whole_number(value, -_LARGEST_ID, _LARGEST_ID):
            raise InvalidOption(f"{name} must be the number of a row, not {value!r}")
    if not is_whole_number(limit, 1, MOST):
        raise InvalidOption(f"limit must be a whole number from 1 to {MOST}, not {limit!r}")
    if filters.is_impossible:
        return JobPage([])
    is_newest = after is None
    start = (_LARGEST_ID if before is None else before - 1) if after is None else after + 1
    walk = _Walk(database.listing, filters, start, limit + 1, is_newest, clock() + seconds, clock)
    walk.go()
    if is_newest:
        return _downwards(walk, limit, before)
    if walk.is_end and len(walk.found) <= limit:
        # The newest there are: a whole page of them, and not a part of one.
        return list_page(database, filters, limit=limit, seconds=seconds, clock=clock)
    return _upwards(walk, limit, start)


def _downwards(walk: _Walk, limit: int, before: int | None) -> JobPage:
    jobs = walk.found[:limit]
    newer = None if before is None else before - 1
    if len(walk.found) > limit:
        return JobPage(jobs, jobs[-1].id, newer)
    if walk.is_end:
        return JobPage(jobs, None, newer)
    return JobPage(jobs, walk.start + 1, newer, walk.looked)


def _upwards(walk: _Walk, limit: int, start: int) -> JobPage:
    jobs = walk.found[:limit][::-1]
    if len(walk.found) > limit:
        return JobPage(jobs, start, jobs[0].id)
    return JobPage(jobs, start, walk.start - 1, walk.looked)


class _Walk:
    """Looks for jobs from one row on, until there are enough, or the time is over."""

    def __init__(
        self,
        rows: Listing,
        filters: Filters,
        start: int,
        wanted: int,
        is_newest: bool,
        end: float,
        clock: Clock,
    ) -> None:
        self._rows = rows
        self._filters = filters
        self._parameters = filters.parameters()
        #: Where it goes on.
        self.start = start
        self._wanted = wanted
        self._is_newest = is_newest
        self._end = end
        self._clock = clock
        self.found: list[ListedJob] = []
        #: How many rows it has looked at.
        self.looked = 0
        #: Nothing is left to look at.
        self.is_end = False

    def go(self) -> None:
        is_down = self._is_newest
        if is_few(self._filters, measure(self._rows, self._filters)):
            self.is_end = True
            bounds = {"until": self.start} if is_down else {"after": self.start - 1}
            self.found = self._rows.page_jobs(
                self._parameters, limit=self._wanted, newest=is_down, is_few=True, **bounds
            )
            return
        for span in steps(self._rows, self.start, self._end, is_newest=is_down, clock=self._clock):
            self.is_end = span is None
            if span is None:
                return
            self.found += self._rows.page_jobs(
                self._parameters,
                limit=self._wanted - len(self.found),
                newest=is_down,
                after=span.lowest - 1,
                until=span.highest,
            )
            self.looked += span.rows
            self.start = span.lowest - 1 if is_down else span.highest + 1
            if len(self.found) >= self._wanted:
                return


def steps(
    rows: Listing, start: int, end: float, *, is_newest: bool = True, clock: Clock = monotonic
) -> Iterator[Span | None]:
    """Spans of rows, one after the other, as many as there is time for; None behind the last row.

    The first is small: most lists are filled by it. Each one after it is as large as the time that
    is left allows, by what those before it have taken.
    """
    began, looked, size = clock(), 0, FIRST_STEP
    while True:
        asked = min(size, WINDOW - looked)
        span = rows.span_jobs(start, asked, newest=is_newest)
        if not span.rows:
            yield None
            return
        yield span
        looked += span.rows
        if span.rows < asked:
            yield None
            return
        now = clock()
        if looked >= WINDOW or now >= end:
            return
        rate = looked / max(now - began, 1e-6)
        size = max(FIRST_STEP, min(size * 4, LARGEST_STEP, int(rate * (end - now))))
        start = span.lowest - 1 if is_newest else span.highest + 1


def measure(rows: Listing, filters: Filters) -> Ways:
    """How many rows the indexes lead to that the states and times among the filters leave."""
    states = filters.given.get("state") or frozenset(State)
    is_ended_only = not filters.given.keys().isdisjoint({"finished_before", "finished_after"})
    return rows.measure_ways(
        filters.parameters(),
        DEPTH,
        is_ready=not is_ended_only and not states.isdisjoint(READY),
        is_due=not is_ended_only and not states.isdisjoint(DUE),
        is_ended=not states.isdisjoint(FINAL),
    )


def is_few(filters: Filters, ways: Ways) -> bool:
    """True if an index leads to few, so that all of them can be looked at."""
    given, depth = filters.given, depth_of(filters)
    if "id" in given or ways.ready + ways.due + ways.ended < depth:
        return True
    if not given.keys().isdisjoint({"error", "fingerprint"}) and ways.failed < depth:
        return True
    return "root" in given and ways.rooted < depth


def depth_of(filters: Filters) -> int:
    """How many rows are few for these filters."""
    return DEPTH if filters.given.keys().isdisjoint(_SLOW) else DEPTH_OF_MESSAGES


# Counts


def count_states(
    database: Database,
    filters: Filters,
    *,
    seconds: float = SECONDS / 2,
    clock: Clock = monotonic,
) -> dict[State, Count]:
    """How many jobs there are in each state, whatever state the filters name.

    Exact where an index leads to few; from the server's statistics for all jobs; otherwise as many
    as were seen in about ``seconds`` among the newest.
    """
    base = Filters({name: value for name, value in filters.given.items() if name != "state"})
    counts = dict.fromkeys(State, Count(0))
    if base.is_impossible:
        return counts
    rows, end = database.listing, clock() + seconds
    ways, depth = measure(rows, base), depth_of(base)
    states: set[State] = set()
    for number, some in ((ways.ready, READY), (ways.due, DUE), (ways.ended, FINAL)):
        if number < depth or is_few(base, ways):
            states |= some
    if states:
        exact = rows.count_matched(base.narrow(state=states).parameters())
        counts.update((state, Count(number)) for state, number in exact.items())
    unknown = set(State) - states
    if unknown and not base.given:
        known = _estimated(database, unknown, ways)
        counts.update(known)
        unknown -= known.keys()
    if unknown:
        counts.update(_count_newest(rows, base.narrow(state=unknown), unknown, end, clock))
    return counts


def _estimated(database: Database, states: set[State], ways: Ways) -> dict[State, Count]:
    """All jobs in these states, of which there are many."""
    estimates = database.listing.estimate_states()
    counts = {
        state: Count(max(0, round(estimates[state])), "about")
        for state in states
        if state in estimates
    }
    if states >= READY:
        # What runs stands at the heads of the lines.
        lines = database.overview.survey_lines(database.overview.find_lines())
        is_open = any(line.is_cut and not line.ready for line in lines)
        running = sum(line.running for line in lines)
        counts[State.EXECUTING] = Count(running, "least" if is_open else "exact")
        if State.AVAILABLE not in counts:
            counts[State.AVAILABLE] = Count(sum(line.ready for line in lines), "least")
    return counts


def _count_newest(
    rows: Listing, filters: Filters, states: set[State], end: float, clock: Clock
) -> dict[State, Count]:
    numbers = dict.fromkeys(states, 0)
    parameters = filters.parameters()
    is_end = False
    for span in steps(rows, _LARGEST_ID, end, clock=clock):
        is_end = span is None
        if span is not None:
            seen = rows.count_matched(parameters, after=span.lowest - 1, until=span.highest)
            for state, number in seen.items():
                numbers[state] += number
    kind: Literal["exact", "least"] = "exact" if is_end else "least"
    return {state: Count(number, kind) for state, number in numbers.items()}


def total(counts: Mapping[State, Count]) -> Count:
    """All of them."""
    result = Count(0)
    for count in counts.values():
        result = result.plus(count)
    return result


# Suggestions


def suggest(database: Database, depth: int = 500) -> Suggestions:
    """What the newest rows can be filtered by."""
    words = database.listing.list_words(depth)
    return Suggestions(
        _frequent(word.task for word in words),
        _frequent(word.queue for word in words),
        _frequent(tag for word in words for tag in word.tags),
        _frequent(word.worker for word in words if word.worker),
        _frequent(
            path
            for word in words
            for kind, given in (("kwargs", word.kwargs), ("meta", word.meta))
            for path in paths(kind, given)
        ),
    )


def _frequent(words: Iterable[str], most: int = 100) -> list[str]:
    numbers: dict[str, int] = {}
    for word in words:
        numbers[word] = numbers.get(word, 0) + 1
    return sorted(numbers, key=lambda word: -numbers[word])[:most]
