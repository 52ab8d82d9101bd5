"""How many jobs there are in each state: at once, and with a word of how exact that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..job.states import FINAL, State
from ..scopes.steady import monotonic
from .filters import Filters
from .looking import DUE, READY, ByEnd, ById, Clock, Order, depth_of, is_few, measure, steps

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.listing import Ways

#: For about how many seconds is counted what no index counts.
SECONDS = 0.03


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


def rounded(number: float) -> str:
    """About so many: ``1.2 M``, ``120,000``, ``12``."""
    if number >= 999_500:
        return f"{number / 1e6:,.1f} M" if number < 99_950_000 else f"{number / 1e6:,.0f} M"
    digits = max(0, len(str(int(number))) - 2)
    return f"{round(number, -digits):,.0f}"


def count_states(
    database: Database,
    filters: Filters,
    *,
    seconds: float = SECONDS,
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
    if ended := unknown & FINAL:
        half = clock() + (end - clock()) / 2
        counts.update(_count_newest(ByEnd(rows, newest=True), base, ended, half, clock))
    if others := unknown - FINAL:
        counts.update(_count_newest(ById(rows, newest=True), base, others, end, clock))
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
        # Jobs that run stand at the heads of the lines.
        running, is_open = database.listing.count_running(database.overview.find_lines())
        counts[State.EXECUTING] = Count(running, "least" if is_open else "exact")
    return counts


def _count_newest(
    order: Order, filters: Filters, states: set[State], end: float, clock: Clock
) -> dict[State, Count]:
    """Those in these states among the newest rows."""
    numbers = dict.fromkeys(states, 0)
    parameters = filters.narrow(state=states).parameters()
    is_end = False
    for step in steps(order, order.start, end, clock=clock):
        is_end = step is None
        if step is not None:
            seen = order.rows.count_matched({**parameters, **step.bounds})
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
