"""The results in the rows of ``jobs``: store, read, forget, wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ...job.outcome import Result, clean_text
from ...job.rows import Fence
from ...job.states import State
from .. import notify

if TYPE_CHECKING:
    from ..session import Session


class StoredResult(NamedTuple):
    """The result as its row has it."""

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
    attempt: int
    attempted_by: str | None
    #: Its args and kwargs, encoded as the result is; None if they are not kept.
    body: bytes | None
    #: Its place in its group; None where it is in none.
    group_index: int | None = None


class Results:
    """Statements on results, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def finish_job(self, result: Result, state: State, fence: Fence) -> bool:
        """Finish the job with its result; False if the claim was lost."""
        rows = self._fetch(
            "finish_job",
            state=state.value,
            node=fence.node,
            attempt=fence.attempt,
            **self._wake(result.task_id),
            **result._asdict(),
        )
        return bool(rows[0][0])

    def report_job(self, result: Result, reported: str, fence: Fence | None) -> bool:
        """Store an unfinished job's report of itself; False if it does not exist."""
        values = result._asdict()
        del values["error"]
        rows = self._fetch(
            "report_job",
            reported_state=reported,
            node=fence.node if fence else None,
            attempt=fence.attempt if fence else None,
            **self._wake(result.task_id, notify.STATE),
            **values,
        )
        return bool(rows[0][0])

    def record_retry(self, result: Result, fence: Fence) -> bool:
        """Store why an attempt failed whose job runs again; False if the claim was lost."""
        values = result._asdict()
        del values["children"]
        rows = self._fetch(
            "record_retry",
            node=fence.node,
            attempt=fence.attempt,
            **self._wake(result.task_id, notify.STATE),
            **values,
        )
        return bool(rows[0][0])

    def upsert_result(
        self, result: Result, state: State, reported: str | None, origin: Origin
    ) -> bool:
        """Store a result that no claim stands behind; False if the job has finished already."""
        rows = self._fetch(
            "upsert_result",
            state=state.value,
            reported_state=reported,
            **origin._asdict(),
            **self._wake(result.task_id, notify.RESULT if state.is_final else notify.STATE),
            **result._asdict(),
        )
        return bool(rows[0][0])

    def get_results(self, task_ids: Sequence[str], extended: bool = False) -> list[StoredResult]:
        """The rows of those of the ids that have one."""
        rows = self._fetch("get_results", task_ids=possible_ids(task_ids), extended=extended)
        return [StoredResult(row[0], State(row[1]), *row[2:]) for row in rows]

    def finished_ids(self, task_ids: Iterable[str]) -> set[str]:
        """Those of the ids whose job has finished."""
        rows = self._fetch("finished_ids", task_ids=possible_ids(task_ids))
        return {row[0] for row in rows}

    def forget_result(self, task_id: str) -> None:
        """Delete a finished job, or what an unfinished one reported."""
        if possible_ids([task_id]):
            self._fetch("forget_result", task_id=task_id)

    def _fetch(self, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        # Pinned: a plan that was made while the table was small costs 15 to 35 ms a call at
        # 200,000 rows, until the statistics catch up; the pins cost 5 µs.
        session = self._session
        return session.run([session.call("pin_plans"), session.call(name, **values)])[1]

    def _wake(self, task_id: str, kind: str = notify.RESULT) -> dict[str, Any]:
        return {
            "channel": notify.result_channel(self._session.schema),
            "kind": kind,
            "space": notify.SLEEPERS,
            "waiter": notify.waiter(task_id, kind),
        }


def possible_ids(task_ids: Iterable[str]) -> list[str]:
    """Those that a row can have: an id that an application made may hold NUL or half a letter."""
    texts = map(str, task_ids)
    return [text for text in texts if clean_text(text) == text]
