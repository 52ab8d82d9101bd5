"""A running task's reads and writes of its own row, fenced by its claim."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import psycopg

from ...job.outcome import Result
from ...job.rows import Cancellation, Fence
from .. import notify

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session


class Transaction(NamedTuple):
    """The transaction in which a task has completed its job."""

    #: Its number, which no other has in the life of a database.
    xid: str
    #: The process of the server that it runs in.
    pid: int


class JobEnd(NamedTuple):
    """The relation of a job's row to a run of it."""

    #: The run holds the job.
    is_held: bool
    #: The run has completed it.
    is_completed: bool


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

    def complete_job(self, result: Result, fence: Fence, *, leaves: bool) -> Transaction | None:
        """Complete the job, in the transaction that we are in; None if the claim was lost.

        ``leaves``: its result is ignored, and the row keeps what it has.
        """
        session = self._session
        channel = notify.result_channel(session.schema)
        ((count, xid, pid, _),) = session.fetch(
            "complete_job",
            task_id=result.task_id,
            result=result.result,
            result_type=result.result_type,
            children=result.children,
            node=fence.node,
            attempt=fence.attempt,
            leaves=leaves,
            channel=channel,
            kind=notify.RESULT,
            space=notify.SLEEPERS,
            waiter=notify.waiter(result.task_id, notify.RESULT),
        )
        return Transaction(xid, pid) if count else None

    def find_commit(self, transaction: Transaction) -> tuple[str | None, bool]:
        """The server's word for the end of a transaction, and whether it is only a standby.

        "committed", "aborted" or "in progress"; None for a transaction that it does not know.
        """
        try:
            return self._session.fetch("find_commit", xid=transaction.xid)[0]
        except psycopg.errors.InvalidParameterValue:  # it "is in the future"
            return None, False

    def find_end(self, task_id: str, fence: Fence) -> JobEnd | None:
        """The relation of the job to a run of it; None if it has no row any more."""
        rows = self._fetch("find_end", task_id, node=fence.node, attempt=fence.attempt)
        return JobEnd(*map(bool, rows[0])) if rows else None

    def end_session(self, transaction: Transaction) -> None:
        """End the session of the transaction, if it waits for a client, and if we may."""
        with suppress(psycopg.errors.InsufficientPrivilege):
            self._session.fetch("end_session", **transaction._asdict())

    def _fetch(self, name: str, /, task_id: str, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, task_id=task_id, **values)]
        return session.retrying(lambda: session.run(calls))[1]
