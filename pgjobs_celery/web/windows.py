"""The time that a page tells of: the word ``range`` of its address, and what ended in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..control import history
from ..control.history import WINDOWS, Window, window_named
from ..control.overview import Overview, QueueNow, overview
from . import words

if TYPE_CHECKING:
    from ..db.database import Database
    from .visit import Visit

T = TypeVar("T")

#: For how many seconds what was read of each counts: it changes every five, and of a week little.
REMEMBERED = {"hour": 2.5, "day": 10.0, "week": 30.0}
#: And what was read of the present.
JUST_NOW = 1.0
#: How many jobs in line are looked at, of all queues together: 10 ms.
ENTRIES = 10_000


def chosen_window(visit: Visit) -> Window:
    """The window that the address names; an hour if it names none.

    Raises InvalidOption for a word that is not one.
    """
    return window_named(visit.query.get("range") or next(iter(WINDOWS)))


class Past:
    """The ends within a window, as :mod:`pgjobs_celery.control.history` reads it."""

    def __init__(self, visit: Visit) -> None:
        self.window = chosen_window(visit)
        self._database = visit.source.database
        self._memory = visit.site.memory
        self._source = visit.source.name

    def series(self, kind: str = "all", name: str = "") -> history.Series:
        """Of all jobs, of a task or of a queue."""
        read = partial(history.series, self._database, self.window, kind, name)
        return self._get(("series", kind, name), read)

    def lines(self, kind: str) -> dict[str, history.Line]:
        """Of each task, or queue, for small charts."""
        return self._get(("lines", kind), partial(history.lines, self._database, self.window, kind))

    def table(self, kind: str) -> dict[str, history.Measured]:
        """Of each task, or queue, all together."""
        return self._get(("table", kind), partial(history.table, self._database, self.window, kind))

    def failing(self) -> list[history.Failing]:
        """The tasks that fail now, whatever the window is."""
        read = partial(history.failing_tasks, self._database)
        return self._memory.get((self._source, "failing"), read, REMEMBERED["hour"])

    def _get(self, key: tuple[str, ...], read: Callable[[], T]) -> T:
        name = self.window.name
        return self._memory.get((self._source, name, *key), read, REMEMBERED[name])


def now(visit: Visit) -> Now:
    """How queues, workers and failures stand."""
    read = partial(_read_now, visit.source.database)
    return visit.site.memory.get((visit.source.name, "now"), read, JUST_NOW)


@dataclass(frozen=True)
class Now:
    """How all stands, and how long the lines are that were not read to their end."""

    seen: Overview
    #: By queue: how many jobs were ready when a worker counted, or estimated, them.
    counted: Mapping[str, int]

    def ready(self, queue: QueueNow) -> str:
        """``123``; ``about 12,000`` of a long line, or ``100+`` where no worker has counted it."""
        if not queue.is_cut:
            return words.count(queue.ready)
        counted = self.counted.get(queue.name, 0)
        if counted > queue.ready:
            return f"about {words.count(counted)}"
        return f"{words.count(queue.ready)}+"


def _read_now(database: Database) -> Now:
    counted = {
        line.queue: line.jobs for line in database.metrics.list_lines() if line.state == "available"
    }
    return Now(overview(database, ENTRIES), counted)


def page_of(visit: Visit, found: Sequence[T], size: int) -> tuple[Sequence[T], int, int]:
    """The part of a list that the address names, its number, and the last one's."""
    last = max(1, -(-len(found) // size))
    given = visit.query.get("page", "")
    number = int(given) if given.isascii() and given.isdigit() and len(given) < 9 else 1
    number = min(max(1, number), last)
    return found[(number - 1) * size : number * size], number, last
