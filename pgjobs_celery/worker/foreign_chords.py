"""Notice chords of this database of which the worker counts the members elsewhere.

A chord is opened where its publisher has the results. A worker with another ``result_backend``,
left over from a move perhaps, counts the tasks of its header there: their results are missing in
the body, or it never comes. The publisher cannot see that; the worker looks its groups up, at each
poll and in the maintenance thread, until it has warned once.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from ..printable import guarded
from ..results.backend import PgBackend

if TYPE_CHECKING:
    from ..db.database import Database

logger = guarded(logging.getLogger(__name__))

#: How many groups are remembered from one look to the next: any of them will do.
REMEMBERED = 1000


class ForeignChords:
    """Looks up the groups of a worker whose results are not in rows."""

    def __init__(self, database: Database, results: str) -> None:
        self._database = database
        self._results = results
        self._groups: deque[str] = deque(maxlen=REMEMBERED)
        self._is_told = False

    def note(self, group_id: str) -> None:
        """A task of this group has come, which may be the header of a chord."""
        if not self._is_told and not (self._groups and self._groups[-1] == group_id):
            self._groups.append(group_id)

    def look(self) -> None:
        """Warn if one of them is a chord of this database."""
        if self._is_told or not self._groups:
            return
        groups = [self._groups.popleft() for _ in range(len(self._groups))]
        chord = self._database.groups.pick_chord(list(set(groups)))
        if chord is None:
            return
        self._is_told = True
        self._groups.clear()
        logger.warning(
            "chord %s was published with a result backend in this broker's database, and this "
            "worker, with results in %s, counts its members elsewhere: their results will be "
            "missing in its body, or that will never run; give publishers and workers the same "
            "result_backend (later chords are not named)",
            chord, self._results,
        )  # fmt: skip


def watch_chords(app: Any, database: Database) -> ForeignChords | None:
    """What looks for chords of others; None where the results are in rows too."""
    if isinstance(app.backend, PgBackend):
        return None  # which finds out by itself whether it knows a chord
    return ForeignChords(database, app.backend.as_uri())
