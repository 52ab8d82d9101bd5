"""The jobs that wait for their time, as a worker's remote control shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from .results import possible_ids

if TYPE_CHECKING:
    from ..session import Session

#: How many are shown at most, and among how many of the nearest they are looked for.
LIMIT, DEPTH = 100, 10_000
#: The arguments of a longer message, in bytes, are not decoded for that.
LONGEST = 65_536


class Waiting(NamedTuple):
    """A job that is scheduled, or failed and waits for its next attempt."""

    task_id: str
    queue: str
    due_at: datetime
    priority: int
    message: str
    body: bytes | None


class WaitingJobs:
    """Statements on jobs that wait for their time, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list_waiting(self, queues: Sequence[str], limit: int = LIMIT) -> list[Waiting]:
        """Those of these queues, nearest first."""
        return self._fetch("list_waiting", queues=list(queues), limit=limit, depth=DEPTH)

    def find_waiting(self, task_ids: Sequence[str], queues: Sequence[str]) -> list[Waiting]:
        """Those of these ids that wait in one of these queues."""
        ids = possible_ids(task_ids)
        return self._fetch("find_waiting", task_ids=ids, queues=list(queues)) if ids else []

    def _fetch(self, name: str, **values: object) -> list[Waiting]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, longest=LONGEST, **values)]
        return [Waiting(*row) for row in session.run(calls)[1]]
