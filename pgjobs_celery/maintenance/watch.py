"""Notice jobs that wait although no consumer looks for them, and make the worker reconnect.

The reason does not matter: years of reports are about a broker connection that Celery believes to
have and does not. A consumer that waits for work looks at every poll, so a healthy worker is only
asked for the time of its last look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ..printable import guarded
from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database

logger = guarded(logging.getLogger(__name__))


class Looker(Protocol):
    """A claimer of jobs, in another thread."""

    def neglected(self, seconds: float) -> list[str]:
        """The queues that it has room for, and has not looked into for so long."""

    def reconnect(self, why: str) -> None:
        """Treat its connection as lost."""


class Watch(Service):
    """Check that claimers look for jobs."""

    name = "watch"
    #: How many polls may be missed.
    polls = 3

    def __init__(
        self,
        lookers: Callable[[], Iterable[Looker]],
        poll: float,
        oversee: Callable[[], Callable[[], None] | None] = lambda: None,
    ) -> None:
        self.interval = poll
        self._lookers = lookers
        self._oversee = oversee
        self._suspects: list[Looker] = []

    def run(self, database: Database) -> dict[str, int]:
        """Ask each claimer, and look where one should have looked."""
        if oversee := self._oversee():
            oversee()
        overdue = self.polls * self.interval
        neglected = {each: each.neglected(overdue) for each in self._lookers()}
        # Twice in a row: it may have had no room until just now.
        suspects, self._suspects = self._suspects, [each for each in neglected if neglected[each]]
        for looker in self._suspects:
            if looker in suspects and (waiting := database.claims.find_ready(neglected[looker])):
                why = (
                    f"jobs wait in {', '.join(waiting)}, there is room for them, and nobody has "
                    f"looked for {overdue:g} s or more"
                )
                logger.warning("%s; connecting anew", why)
                looker.reconnect(why)
        return {}
