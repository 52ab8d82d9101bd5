"""A running task's reads and writes of its own row, fenced by its claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ...job.rows import Cancellation, Fence

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session


class Held:
    """The rows of running tasks; one method for each statement. Statements may run twice."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_cancelled(self, node: UUID, ids: Sequence[int]) -> list[Cancellation]:
        """Those of the jobs that the node holds that must be cancelled."""
        calls = [
            self._session.call("pin_plans"),
            self._session.call("find_cancelled", node=node, ids=list(ids)),
        ]
        return [Cancellation(*row) for row in self._session.run(calls)[1]]

    def find_claim(self, task_id: str, fence: Fence) -> bool:
        """True while the task holds its job, and no cancellation was asked for."""
        return bool(self._fetch("find_claim", task_id, node=fence.node, attempt=fence.attempt))

    def get_meta(self, task_id: str) -> dict[str, Any]:
        """The job's meta; empty if it has no row any more."""
        rows = self._fetch("get_meta", task_id)
        return dict(rows[0][0]) if rows else {}

    def merge_meta(
        self, task_id: str, fence: Fence, patch: str, removed: Sequence[str] = ()
    ) -> dict[str, Any] | None:
        """Set keys of the job's meta and remove others; all of it, or None if the claim is lost."""
        rows = self._fetch(
            "merge_meta",
            task_id,
            node=fence.node,
            attempt=fence.attempt,
            patch=patch,
            removed=list(removed),
        )
        return dict(rows[0][0]) if rows else None

    def _fetch(self, name: str, /, task_id: str, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, task_id=task_id, **values)]
        return session.retrying(lambda: session.run(calls))[1]
