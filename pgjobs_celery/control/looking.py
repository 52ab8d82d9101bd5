"""Look for jobs from a place on, in one of two orders, at a bounded price.

By the number of the row or, for what has finished, by the time of its end: so that what has failed
is found in front of what failed before it, and behind any number of jobs that wait. A place is
never a time alone: of two jobs of the same moment none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidOption
from ..job.states import FINAL, State
from ..scopes.steady import monotonic
from .filters import Filters

if TYPE_CHECKING:
    from ..db.rows.listing import Listing, Ways

#: Where the indexes lead to fewer rows than this, all of them are looked at.
DEPTH = 10_000
#: The same for filters that open the message of each row.
DEPTH_OF_MESSAGES = 1000
#: Otherwise so many at most, from the newest on.
WINDOW = 100_000
#: And so many at least, however slow the server is just now.
LEAST = 2000
#: Of how many rows the first step is, and the largest.
FIRST_STEP, LARGEST_STEP = 1000, 25_000

READY = frozenset({State.AVAILABLE, State.EXECUTING})
DUE = frozenset({State.SCHEDULED, State.RETRYABLE})

#: The filters that open the message of each row, or JSON in it.
_SLOW = frozenset({"args", "kwargs", "meta", "stamps"})
_LARGEST_ID = 2**63 - 1
_FIRST, _LAST = datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc)

Clock = Callable[[], float]


class Place(NamedTuple):
    """A place in a list: a job stands there, or between two."""

    id: int
    #: The time of its end; None in the order of the rows.
    at: datetime | None = None

    def __str__(self) -> str:
        return str(self.id) if self.at is None else f"{self.id}~{self.at.isoformat()}"


def read_place(text: str) -> Place:
    """The place that such a text names. Raises InvalidOption."""
    number, mark, time = text.partition("~")
    try:
        id, at = int(number), datetime.fromisoformat(time) if mark else None
    except ValueError:
        id, at = _LARGEST_ID + 1, None
    if not -_LARGEST_ID <= id <= _LARGEST_ID or (at is not None and at.tzinfo is None):
        raise InvalidOption(f"{text[:60]!r} is not a place in a list")
    return Place(id, at)


class Step(NamedTuple):
    """Rows that follow each other in one of the orders."""

    #: Parameters of the filters that leave only these.
    bounds: dict[str, Any]
    rows: int
    #: Where those behind them begin.
    next: Place


class ById:
    """In the order in which jobs were published."""

    def __init__(self, rows: Listing, *, newest: bool) -> None:
        self.rows = rows
        self.newest = newest

    @property
    def start(self) -> Place:
        """In front of all."""
        return Place(_LARGEST_ID if self.newest else -_LARGEST_ID)

    def step(self, place: Place, limit: int) -> Step | None:
        """Up to ``limit`` rows behind a place; None without any."""
        start = place.id - 1 if self.newest else place.id + 1
        span = self.rows.span_jobs(start, limit, newest=self.newest)
        if not span.rows:
            return None
        bounds = {"after": span.lowest - 1, "until": span.highest}
        return Step(bounds, span.rows, Place(span.lowest if self.newest else span.highest))

    def find(
        self, filters: dict[str, Any], place: Place, bounds: dict[str, Any] | None, limit: int
    ) -> list[Place]:
        """Up to ``limit`` jobs behind a place; without bounds all that match are looked at."""
        is_few = bounds is None
        if bounds is None:
            bounds = {"until": place.id - 1} if self.newest else {"after": place.id}
        found = self.rows.find_page(
            {**filters, **bounds}, newest=self.newest, limit=limit, is_few=is_few
        )
        return [Place(id) for id in found]


class ByEnd:
    """In the order in which jobs have finished."""

    def __init__(self, rows: Listing, *, newest: bool) -> None:
        self.rows = rows
        self.newest = newest

    @property
    def start(self) -> Place:
        """In front of all."""
        return Place(_LARGEST_ID, _LAST) if self.newest else Place(-_LARGEST_ID, _FIRST)

    def step(self, place: Place, limit: int) -> Step | None:
        """Up to ``limit`` rows behind a place; None without any."""
        far = Place(-_LARGEST_ID if self.newest else _LARGEST_ID)
        assert place.at is not None
        is_behind = place.id == far.id
        span = self.rows.span_ends(place.at, limit, newest=self.newest, is_behind=is_behind)
        if span.first is None or span.last is None:
            return None
        bounds = {"ended_from": span.first, "ended_to": span.last}
        # All that ended at the last moment are in it, however many.
        return Step(bounds, span.rows, far._replace(at=span.first if self.newest else span.last))

    def find(
        self, filters: dict[str, Any], place: Place, bounds: dict[str, Any] | None, limit: int
    ) -> list[Place]:
        """Up to ``limit`` jobs behind a place; without bounds all that match are looked at."""
        found = self.rows.find_ends(
            {**filters, **(bounds or {})}, place.at, place.id, newest=self.newest, limit=limit
        )
        return [Place(*each) for each in found]


Order = ById | ByEnd


def order_of(rows: Listing, filters: Filters, *, newest: bool = True) -> Order:
    """The order in which a list of these jobs is."""
    is_by_end = filters.is_finished or not filters.given.keys().isdisjoint(
        {"finished_before", "finished_after"}
    )
    return ByEnd(rows, newest=newest) if is_by_end else ById(rows, newest=newest)


class Walk:
    """Looks for jobs from one place on, until there are enough, or the time is over."""

    def __init__(self, order: Order, filters: Filters, place: Place, wanted: int) -> None:
        self._order = order
        self._filters = filters
        #: Where it goes on.
        self.place = place
        self._wanted = wanted
        self.found: list[Place] = []
        #: How many rows it has looked at.
        self.looked = 0
        #: Nothing is left to look at.
        self.is_end = False

    def go(self, rows: Listing, seconds: float, clock: Clock) -> None:
        """Look for about so long, by the clock."""
        parameters = self._filters.parameters()
        if is_few(self._filters, measure(rows, self._filters)):
            self.is_end = True
            self.found = self._order.find(parameters, self.place, None, self._wanted)
            return
        end = clock() + seconds
        for step in steps(self._order, self.place, end, clock=clock):
            self.is_end = step is None
            if step is None:
                return
            wanted = self._wanted - len(self.found)
            self.found += self._order.find(parameters, self.place, step.bounds, wanted)
            self.looked += step.rows
            self.place = step.next
            if len(self.found) >= self._wanted:
                return


def steps(
    order: Order, place: Place, end: float, *, clock: Clock = monotonic
) -> Iterator[Step | None]:
    """Rows behind a place, as many as there is time for; None behind the last of all.

    The first step is small: most lists are filled by it. Each one after it is as large as the time
    that is left allows, by what those before it have taken.
    """
    began, looked, size = clock(), 0, FIRST_STEP
    while True:
        asked = min(size, WINDOW - looked)
        step = order.step(place, asked)
        if step is None:
            yield None
            return
        yield step
        looked += step.rows
        if step.rows < asked:
            yield None
            return
        now = clock()
        if looked >= WINDOW or (now >= end and looked >= LEAST):
            return
        rate = looked / max(now - began, 1e-6)
        size = max(FIRST_STEP, min(size * 4, LARGEST_STEP, int(rate * (end - now))))
        place = step.next


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
    if "id" in given or "idempotency_key" in given or ways.ready + ways.due + ways.ended < depth:
        return True
    if not given.keys().isdisjoint({"error", "fingerprint"}) and ways.failed < depth:
        return True
    return "root" in given and ways.rooted < depth


def depth_of(filters: Filters) -> int:
    """How many rows are few for these filters."""
    return DEPTH if filters.given.keys().isdisjoint(_SLOW) else DEPTH_OF_MESSAGES
