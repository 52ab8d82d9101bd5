"""The rows of ``flows``, ``weights`` and ``pauses``: what people set at run time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ...job.flow import FlowRow
from .. import notify
from .audit import Action, Audit
from .flow import reopen_flows

if TYPE_CHECKING:
    from ..session import Session

#: How many rules, weights and pauses are listed at most.
MOST = 10_000
#: How many lanes are looked at, and how many jobs of each are counted.
LANES, DEPTH = 1000, 1000
#: How many lanes of parked jobs one statement lists, and how many jobs one statement moves.
MOST_LANES, BATCH = 1000, 1000


class GateRow(NamedTuple):
    """A gate that was passed lately."""

    flow: str
    gate: str
    #: How many starts, or running jobs, are counted.
    used: int
    #: In how many seconds the next may begin, of a rate; 0 for at once.
    next_in: float
    #: How many gates of its flow are used.
    gates: int


class WaitingRow(NamedTuple):
    """The jobs that wait at a gate."""

    flow: str
    gate: str
    jobs: int
    #: There are more.
    is_cut: bool


class PauseRow(NamedTuple):
    """A pause of the jobs of a task, with a tag or of a key."""

    kind: str
    name: str
    #: Of a key: the queue that it is a key of; empty for every other pause.
    queue: str
    paused_at: datetime
    until: datetime | None = None


class Claimed(NamedTuple):
    """A job that was claimed just now, and by which it may be paused."""

    id: int
    attempt: int
    task: str
    queue: str
    tags: Sequence[str]
    lane: str | None


class Rules:
    """Statements on the rules of flows and on pauses, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._audit = Audit(session)

    def list_rules(self, flows: Collection[str] | None = None, limit: int = MOST) -> list[FlowRow]:
        """The rules that count, by name; all, or those of these flows."""
        rows = self._session.fetch("list_rules", flows=_listed(flows), limit=limit)
        return [FlowRow(*row) for row in rows]

    def look_at_gates(
        self,
        flows: Collection[str] | None = None,
        limit: int = 1,
        gates: Collection[str] | None = None,
    ) -> list[GateRow]:
        """The gates of these flows, or of all, that are used most: so many of each flow.

        Only those that are among ``gates``, if that is given.
        """
        values = {"flows": _listed(flows), "limit": limit, "gates": _listed(gates)}
        return [GateRow(*row) for row in self._session.fetch("look_at_gates", **values)]

    def count_waiting(
        self, flows: Collection[str] | None = None, limit: int = MOST, depth: int = DEPTH
    ) -> list[WaitingRow]:
        """How many jobs wait at the gates of these flows, or of all."""
        values = {"flows": _listed(flows), "limit": limit, "lanes": LANES, "depth": depth}
        return [WaitingRow(*row) for row in self._session.fetch("count_waiting", **values)]

    def set_rule(self, rule: FlowRow, action: Action) -> None:
        """Set a rule by hand; workers hear of it."""
        self._change("set_rule", action, (rule.flow,), **rule._asdict())

    def reset_rule(self, flow: str, action: Action) -> bool:
        """Take away the rule that a hand has set; False if there is none."""
        with self._session.transaction():
            found = self._session.fetch("reset_rule", flow=flow)
            if found:
                self._audit.record_action(action)
        if found:
            reopen_flows(self._session, [flow])
            self.announce()
        return bool(found)

    def reset_queue(self, queue: str, flows: Sequence[str], action: Action) -> None:
        """Forget what a hand has set for a queue, and for its flows."""
        self._change("reset_queue", action, flows, queue=queue, flows=list(flows))

    def set_fair(self, queue: str, by: str | None, ageing: float | None, action: Action) -> None:
        """Have a queue serve its keys in turn, or (None) no more."""
        self._change("set_fair", action, queue=queue, fair_by=by, ageing=ageing)

    def set_depth(
        self,
        queue: str,
        depth: int | None,
        on_full: str | None,
        wait: float | None,
        action: Action,
    ) -> None:
        """Set how many jobs may wait in a queue; None for any number."""
        self._change(
            "set_depth", action, queue=queue, max_depth=depth, on_full=on_full, full_wait=wait
        )

    def set_weight(self, queue: str, key: str, weight: float | None, action: Action) -> None:
        """Set the weight of a key in a queue; None for the one of all others."""
        self._change("set_weight", action, queue=queue, key=key, weight=weight)

    def list_weights(self, queue: str) -> list[tuple[str, float]]:
        """The weights of keys that have one of their own."""
        rows = self._session.fetch("list_weights", queue=queue, limit=MOST)
        return [(key, weight) for key, weight in rows]

    def has_keys(self, queue: str, flows: Collection[str]) -> bool:
        """True if jobs of this queue, which has these flows, have a key by some rule."""
        return bool(self._session.fetch("find_keys", queue=queue, flows=_listed(flows))[0][0])

    def pause_jobs(
        self,
        kind: str,
        name: str,
        queue: str,
        until: datetime | None,
        seconds: float | None,
        action: Action,
    ) -> None:
        """Pause the jobs of a task, with a tag or of a key."""
        self._change(
            "pause_jobs", action, kind=kind, name=name, queue=queue, until=until, seconds=seconds
        )

    def resume_jobs(self, kind: str, name: str, queue: str, action: Action) -> bool:
        """End a pause; False if there is none. What was parked goes back by the next unpark."""
        with self._session.transaction():
            found = self._session.fetch("resume_jobs", kind=kind, name=name, queue=queue)
            if found:
                self._audit.record_action(action)
        if found:
            self.announce()
        return bool(found)

    def list_pauses(self) -> list[PauseRow]:
        """The pauses that hold, of tasks, tags and keys."""
        return [PauseRow(*row) for row in self._session.fetch("list_pauses", limit=MOST)]

    def share_pauses(self) -> list[tuple[str, str, str]]:
        """The pauses (kind, name, queue) that hold until this transaction is over."""
        return [(kind, name, queue) for kind, name, queue in self._session.fetch("share_pauses")]

    def look_at_claimed(self, node: UUID, ids: Sequence[int]) -> list[Claimed]:
        """Jobs that ``node`` has just claimed."""
        rows = self._session.fetch("look_at_claimed", node=node, ids=list(ids))
        return [Claimed(*row) for row in rows]

    def park_jobs(self, node: UUID, parked: Sequence[tuple[int, int, str]]) -> set[int]:
        """Put claimed jobs (number of the row, attempt, lane) back; the numbers of those parked."""
        ids, attempts, lanes = zip(*parked, strict=True)
        rows = self._session.fetch(
            "park_jobs", node=node, ids=list(ids), attempts=list(attempts), lanes=list(lanes)
        )
        return {id for (id,) in rows}

    def end_pauses(self) -> list[tuple[str, str, str]]:
        """The pauses (kind, name, queue) that are over; none of them parks a job from now on."""
        return [(kind, name, queue) for kind, name, queue in self._session.fetch("end_pauses")]

    def forget_pauses(self, ended: Sequence[tuple[str, str, str]]) -> None:
        """Delete these pauses (kind, name, queue), unless they began anew."""
        kinds, names, queues = (list(column) for column in zip(*ended, strict=True))
        self._session.fetch("forget_pauses", kinds=kinds, names=names, queues=queues)

    def list_parked(self) -> Iterator[tuple[str, str]]:
        """The lanes (queue, lane) in which jobs are parked."""
        last = ("", "")
        while True:
            rows = self._session.fetch("list_parked", queue=last[0], lane=last[1], limit=MOST_LANES)
            for queue, lane in rows:
                last = queue, lane
                yield last
            if len(rows) < MOST_LANES:
                return

    def count_parked(self, most: int) -> dict[str, int]:
        """How many jobs are parked in each lane; no further than ``most`` lanes, and jobs."""
        found = list(islice(self.list_parked(), most))
        if not found:
            return {}
        queues, lanes = (list(column) for column in zip(*found, strict=True))
        calls = [
            self._session.call("pin_plans"),
            self._session.call("count_parked", queues=queues, lanes=lanes, most=most),
        ]
        return dict(self._session.run(calls)[1])

    def unpark_jobs(self, queue: str, lane: str, after: str | None) -> int:
        """Move up to BATCH jobs from one lane into another, or into none; how many."""
        calls = [
            self._session.call("pin_plans"),
            self._session.call("unpark_jobs", queue=queue, lane=lane, after=after, limit=BATCH),
        ]
        return int(self._session.run(calls)[1][0][0])

    def wake_queue(self, queue: str) -> None:
        """Have the workers of a queue look at all of it."""
        self._session.run([self._session.wake(notify.BACK, queue)])

    def resume_due(self) -> list[str]:
        """Resume the queues whose pause is over, and tell their workers."""
        queues = [queue for (queue,) in self._session.fetch("resume_due")]
        if queues:
            self.announce()
        return queues

    def announce(self) -> None:
        """Have every worker look at the rules, awake or not, and publishers of this process."""
        self._session.rules_changes += 1
        told = self._session.call(
            "wake_sleepers",
            channel=notify.work_channel(self._session.schema),
            kind=notify.QUEUE,
            name="",
            space=notify.SLEEPERS,
            is_joined=True,
        )
        self._session.run([told])

    def _change(
        self, statement: str, action: Action, changed: Sequence[str] = (), /, **values: Any
    ) -> None:
        """Write it, and what it means for the lanes of the flows that are ``changed`` by it."""
        with self._session.transaction():
            self._session.fetch(statement, **values)
            self._audit.record_action(action)
        if changed:
            reopen_flows(self._session, changed)
        self.announce()


def _listed(flows: Collection[str] | None) -> list[str] | None:
    return None if flows is None else sorted(flows)
