"""The jobs of a canvas, and what their messages say will come after them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ...job.states import State
from .nodes import read_object
from .results import possible_ids

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session

#: The largest body, in bytes, in which what comes next is looked for: it is parsed as JSON.
LARGEST = 256 * 1024


class CanvasRow(NamedTuple):
    """A job as the canvas knows it: without what it was given and what it gave."""

    id: int
    task_id: str
    task: str
    queue: str
    state: State
    attempt: int
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    group_index: int | None
    inserted_at: datetime
    attempted_at: datetime | None = None
    finished_at: datetime | None = None
    superseded_by: str | None = None


class CanvasRows:
    """Statements on the jobs of a canvas, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_canvas(
        self, ids: Iterable[str], roots: Iterable[str], groups: Iterable[str], limit: int
    ) -> list[CanvasRow]:
        """The jobs of these ids, below these roots and in these groups.

        Up to ``limit`` for each of the three; the oldest of those come first.
        """
        rows = self._fetch(
            "find_canvas",
            ids=possible_ids(ids),
            roots=possible_ids(roots),
            groups=possible_ids(groups),
            limit=limit,
        )
        found = {row[0]: CanvasRow(*row)._replace(state=State(row[4])) for row in rows}
        return [found[id] for id in sorted(found)]

    def list_links(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """By id: ``chain``, ``chord``, ``callbacks`` and ``errbacks`` of its message.

        Nothing of a message that is not plain JSON, or larger than :data:`LARGEST`.
        """
        rows = self._fetch("list_links", ids=possible_ids(ids), most=LARGEST)
        return {task_id: read_object(links) for task_id, links in rows}

    def _fetch(self, name: str, /, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, **values)]
        # Never in a caller's transaction, whose other statements these settings would slow down.
        return session.retrying(lambda: session.run(calls))[1]
