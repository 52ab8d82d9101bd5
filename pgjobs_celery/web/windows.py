"""The time that a page tells of: the word ``range`` of its address, and what ended in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..control import history
from ..control.history import WINDOWS, Window, window_named

if TYPE_CHECKING:
    from .visit import Visit

#: How people call each.
TITLES = {"hour": "Last hour", "day": "Last day", "week": "Last week"}
#: For how many seconds what was read counts: it changes every five at most.
REMEMBERED = 2.5


def chosen_window(visit: Visit) -> Window:
    """The window that the address names; an hour if it names none.

    Raises InvalidOption for a word that is not one.
    """
    return window_named(visit.query.get("range") or next(iter(WINDOWS)))


class Past:
    """What ended within a window, as :mod:`pgjobs_celery.control.history` reads it."""

    def __init__(self, visit: Visit) -> None:
        self.window = chosen_window(visit)
        self._database = visit.source.database
        self._memory = visit.site.memory
        self._key = (visit.source.name, self.window.name)

    def series(self, kind: str = "all", name: str = "") -> history.Series:
        """Of all jobs, of a task or of a queue."""
        return self._memory.get(
            ("series", *self._key, kind, name),
            lambda: history.series(self._database, self.window, kind, name),
        )

    def lines(self, kind: str) -> dict[str, history.Line]:
        """Of each task, or queue, for small charts."""
        return self._memory.get(
            ("lines", *self._key, kind), lambda: history.lines(self._database, self.window, kind)
        )

    def table(self, kind: str) -> dict[str, history.Measured]:
        """Of each task, or queue, all together."""
        return self._memory.get(
            ("table", *self._key, kind), lambda: history.table(self._database, self.window, kind)
        )

    def failing(self) -> list[history.Failing]:
        """The tasks that fail now, whatever the window is."""
        return self._memory.get(
            ("failing", self._key[0]), lambda: history.failing_tasks(self._database)
        )
