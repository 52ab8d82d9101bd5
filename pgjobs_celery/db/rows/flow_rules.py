"""The rules of flow control, as publishers need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...job.flow import FlowRow
from .audit import Action, Audit

if TYPE_CHECKING:
    from ..session import Session

#: The most rules of each kind that a process reads.
MOST = 10_000


class FlowBy(NamedTuple):
    """A flow, and the argument by which it counts."""

    flow: str
    source: str
    by: str | None


class QueueRow(NamedTuple):
    """A queue that is fair, or may be full."""

    queue: str
    fair_by: str | None
    max_depth: int | None
    on_full: str | None
    full_wait: float | None
    #: The columns that were set by hand.
    by_hand: Sequence[str]


class FlowRules:
    """Statements on rules, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._audit = Audit(session)

    def list_rules(self) -> tuple[list[FlowBy], list[QueueRow]]:
        """All flows, and the queues that have rules; in one round trip.

        Over a connection of ours: whoever may publish over the caller's need not read these, and an
        error would end the caller's transaction.
        """
        calls = [
            self._session.call("list_flow_rules", most=MOST),
            self._session.call("list_queue_rules", most=MOST),
        ]
        flows, queues = self._session.retrying(lambda: self._session.run(calls))
        return [FlowBy(*row) for row in flows], [QueueRow(*row) for row in queues]

    def name_flow(self, row: FlowRow) -> None:
        """Register the rule of a call, for all that use its name."""
        fields = row._asdict()
        del fields["source"]
        self._session.fetch("name_flow", **fields)

    def get_lanes(self, task_ids: Sequence[str]) -> dict[str, tuple[str | None, int | None]]:
        """The lane and the cost of each of these jobs."""
        rows = self._session.fetch("get_lanes", task_ids=list(task_ids))
        return {task_id: (lane, cost) for task_id, lane, cost in rows}

    def count_depth(self, queue: str, most: int) -> int:
        """How many jobs of a queue wait to be claimed; no further than ``most``."""
        calls = [
            self._session.call("pin_plans"),
            self._session.call("count_depth", queue=queue, most=most),
        ]
        rows = self._session.retrying(lambda: self._session.run(calls))
        return int(rows[1][0][0])

    def drop_oldest(
        self, queue: str, count: int, max_depth: int, action: Action | None = None
    ) -> list[str]:
        """Cancel the jobs of a queue that wait longest, with one row in the audit; their ids."""
        calls = [
            self._session.call("pin_plans"),
            self._session.call("drop_oldest", queue=queue, count=count, max_depth=max_depth),
        ]
        with self._audit.acting():
            ids = [task_id for (task_id,) in self._session.run(calls)[1]]
            if ids and action is not None:
                self._audit.record_action(action, jobs=len(ids), task_ids=ids)
        if ids:
            self._session.run([self._session.wake_waiters(ids)])
        return ids
