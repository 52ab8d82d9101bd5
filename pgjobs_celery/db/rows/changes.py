"""Marks of what has changed: one look serves all who watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .. import notify
from .doctor import Looks

if TYPE_CHECKING:
    from ..notify import Listener
    from ..session import Session


class Marks(NamedTuple):
    """The values that show a change, and nothing else: two looks are compared."""

    newest_job: str
    newest_end: str
    #: How many rows of jobs were written, as far as their sessions have told.
    jobs_written: str
    limits: str
    nodes: str
    schedules: str
    audit: str
    totals: str


class Changes:
    """Statements that look for changes, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def look_for_changes(self) -> Marks:
        """The marks as they are now."""
        session = self._session
        calls = [session.call("pin_plans"), session.call("look_for_changes")]
        return Marks(*session.retrying(lambda: session.run(calls))[1][0])

    def listen(self) -> Listener | None:
        """A connection that hears what waiting workers are told; None where none would hear it.

        That is so where ``listen`` is off, and behind a pooler that gives sessions to transactions:
        to find that out takes up to two seconds. The workers are not asked to tell any more than
        they do: no name is announced.
        """
        if not self._session.options.listen:
            return None
        with Looks(self._session) as looks:
            if not looks.hears_notifications():
                return None
        return self._session.listen_for_work(range(notify.BELLS))
