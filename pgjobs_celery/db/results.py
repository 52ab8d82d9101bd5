"""The results in the rows of ``jobs``: store, read, forget, wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ..job import Fence
from ..outcome import Result
from ..states import State
from . import notify

if TYPE_CHECKING:
    from .database import Database


class StoredResult(NamedTuple):
    """What the row says."""

    task_id: str
    state: State
    reported_state: str | None
    result: bytes | None
    result_type: str | None
    traceback: str | None
    children: str | None
    finished_at: datetime | None
    group_id: str | None
    parent_id: str | None
    task: str
    queue: str
    attempted_by: str | None
    attempt: int
    last_error: dict[str, Any] | None
    message: str | None
    body: bytes | None


class Origin(NamedTuple):
    """Where a task came from that has no row: it went through another broker."""

    task: str
    queue: str
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    attempted_by: str | None


class Results:
    """What can be done to results; one method for each statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def finish_job(self, result: Result, state: State, fence: Fence) -> bool:
        """Finish the job with its result; False if the claim was lost."""
        rows = self._database.fetch(
            "finish_job",
            state=state.value,
            node=fence.node,
            attempt=fence.attempt,
            **self._wake(result.task_id),
            **result._asdict(),
        )
        return bool(rows[0][0])

    def report_job(self, result: Result, reported: str, fence: Fence | None) -> bool:
        """Store what an unfinished job says of itself; False if there is no such job."""
        values = result._asdict()
        del values["error"]
        rows = self._database.fetch(
            "report_job",
            reported_state=reported,
            node=fence and fence.node,
            attempt=fence and fence.attempt,
            **values,
        )
        return bool(rows)

    def record_retry(self, result: Result, fence: Fence) -> bool:
        """Store why an attempt failed whose job runs again; False if the claim was lost."""
        values = result._asdict()
        del values["children"]
        rows = self._database.fetch(
            "record_retry", node=fence.node, attempt=fence.attempt, **values
        )
        return bool(rows)

    def upsert_result(
        self, result: Result, state: State, reported: str | None, origin: Origin
    ) -> bool:
        """Store a result that no claim stands behind; False if the job has finished already."""
        rows = self._database.fetch(
            "upsert_result",
            state=state.value,
            reported_state=reported,
            **origin._asdict(),
            **self._wake(result.task_id),
            **result._asdict(),
        )
        return bool(rows[0][0])

    def get_results(self, task_ids: Sequence[str], extended: bool = False) -> list[StoredResult]:
        """The rows of those of the ids that have one."""
        rows = self._database.fetch("get_results", task_ids=list(task_ids), extended=extended)
        return [StoredResult(row[0], State(row[1]), *row[2:]) for row in rows]

    def finished_ids(self, task_ids: Iterable[str]) -> set[str]:
        """Those of the ids whose job has finished."""
        return {row[0] for row in self._database.fetch("finished_ids", task_ids=list(task_ids))}

    def forget_result(self, task_id: str) -> None:
        """Delete a finished job, or what an unfinished one reported."""
        self._database.fetch("forget_result", task_id=task_id)

    def _wake(self, task_id: str) -> dict[str, Any]:
        return {
            "channel": notify.result_channel(self._database.schema),
            "kind": notify.RESULT,
            "space": notify.SLEEPERS,
            "waiter": notify.waiter(task_id),
        }
