"""Lists of jobs for people: pages that stay where they are, at a bounded price.

What is published meanwhile moves nothing. Filters to which no index leads are tried on the newest
rows, and whoever reads the list is told how many that were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InvalidOption
from ..job.checks import is_whole_number
from ..job.states import State
from ..scopes.steady import monotonic
from .filters import Filters
from .looking import Clock, Place, Walk, is_few, measure, order_of
from .search import Search, paths

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.listing import ListedJob, Listing

#: How many jobs a page has.
PAGE = 40
MOST = 500
#: For about how many seconds a page is looked for.
SECONDS = 0.06
#: How many ids with one beginning are found at most.
MOST_IDS = 100


class JobPage(NamedTuple):
    """A page of a list, the newest first."""

    jobs: list[ListedJob]
    #: ``before`` of the next page, ``after`` of the previous one; None where there is none.
    older: Place | None = None
    newer: Place | None = None
    #: How many rows were looked at, where there are more that were not; None if all were.
    looked: int | None = None


class Found(NamedTuple):
    """The outcome of a search."""

    filters: Filters
    #: More ids begin so than are looked at.
    is_cut: bool = False


@dataclass(frozen=True)
class Suggestions:
    """The values to filter by, as far as the newest rows tell; what is frequent comes first."""

    tasks: list[str]
    queues: list[str]
    tags: list[str]
    workers: list[str]
    #: Into arguments and meta: ``kwargs.user_id``.
    paths: list[str]


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
    before: Place | None = None,
    after: Place | None = None,
    limit: int = PAGE,
    seconds: float = SECONDS,
    clock: Clock = monotonic,
) -> JobPage:
    """The newest jobs that match; those behind ``before``, or next in front of ``after``.

    What has finished is in the order of the ends, all else in the order of the rows. Looks at the
    newest rows for about ``seconds`` where no index leads to them; ``older`` then goes on from
    there. Raises InvalidOption for a place in another order, and for a limit that is none.
    """
    if not is_whole_number(limit, 1, MOST):
        raise InvalidOption(f"limit must be a whole number from 1 to {MOST}, not {limit!r}")
    if filters.is_impossible:
        return JobPage([])
    rows, place = database.listing, after or before
    filters = _narrowed_to_running(database, filters)
    order = order_of(rows, filters, newest=after is None)
    if place is not None and (place.at is None) != (order.start.at is None):
        raise InvalidOption("that is a place in a list of other jobs: begin with the newest")
    walk = Walk(order, filters, place or order.start, limit + 1)
    walk.go(rows, seconds, clock)
    if after is not None and walk.is_end and len(walk.found) <= limit:
        # The newest there are: a whole page of them, and not a part of one.
        return list_page(database, filters, limit=limit, seconds=seconds, clock=clock)
    shown, is_full = walk.found[:limit], len(walk.found) > limit
    behind = shown[-1] if is_full else walk.place
    looked = None if is_full or walk.is_end else walk.looked
    if after is None:
        # In front of the first of this page, or where this look began.
        newer = None if before is None else shown[0] if shown else _beside(before, -1)
        older = behind if is_full or not walk.is_end else None
        return JobPage(_shown(rows, shown), older, newer, looked)
    older = shown[0] if shown else _beside(after, 1)
    return JobPage(_shown(rows, shown[::-1]), older, behind, looked)


def _beside(place: Place, step: int) -> Place:
    """Next to it, so that what stands there is behind it too."""
    return place._replace(id=place.id + step)


def _shown(rows: Listing, places: Sequence[Place]) -> list[ListedJob]:
    """The jobs at these places, but for those that are gone by now."""
    jobs = {job.id: job for job in rows.show_jobs([place.id for place in places])}
    return [jobs[place.id] for place in places if place.id in jobs]


def _narrowed_to_running(database: Database, filters: Filters) -> Filters:
    """Of many jobs that may run, those that do: they stand at the heads of the lines."""
    if filters.given.get("state") != frozenset({State.EXECUTING}) or "id" in filters.given:
        return filters
    if is_few(filters, measure(database.listing, filters)):
        return filters
    queues = filters.given.get("queue") or database.overview.find_lines()
    return filters.narrow(id=database.listing.find_running(sorted(queues), 10 * MOST))


# Suggestions


def suggest(database: Database, depth: int = 500) -> Suggestions:
    """The values by which the newest rows can be filtered."""
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
