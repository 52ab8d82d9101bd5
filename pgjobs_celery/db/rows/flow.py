"""Statements on lanes: what a claim from them consists of, and the rules that code registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ...job.flow import FlowRow, queue_part, rank_of
from ...job.flow_options import WAIT, QueueRules
from ...job.rows import Bucket, Claim

if TYPE_CHECKING:
    from ..connection import Call, Row
    from ..session import Session

#: How many arrivals a claim reads, how many jobs it sorts into lanes, and how many lanes it opens.
MOST_ARRIVALS, MOST_SORTED, MOST_OPENED = 2000, 500, 1000
#: Among how many lanes that wait for the end of a job one is looked for whose place is free.
MOST_SHUT = 500
#: The advisory locks under which rows of gates are made.
GATES = 0x7067_6A67
#: A row of a result without an id tells of the look.
_FATE_COLUMNS = 10


class LaneLook(NamedTuple):
    """The findings of a look at the lanes of a queue."""

    queue: str
    #: Whether another look may find more at once.
    is_full: bool
    #: In how many seconds a gate opens; None for never, by itself.
    opens_in: float | None
    #: Lanes wait for the end of a job.
    waits_for_jobs: bool
    #: Open lanes are left, and gave nothing this time.
    is_held_up: bool
    #: It has lanes at all.
    has_lanes: bool
    #: Gates to be made before the next look.
    gates: tuple[str, ...] = ()
    #: Nothing was looked at, for this node is past its lease.
    is_void: bool = False


def lane_calls(
    session: Session, bucket: Bucket, node: UUID, name: str, limit: int, late: Sequence[str] | None
) -> dict[str, Call]:
    """The statements of a claim from the lanes of a queue, once its row of limits is locked."""
    queue = bucket.queue
    calls: dict[str, Call] = {}
    if bucket.gates:
        calls["make_gates"] = session.call("make_gates", gates=list(bucket.gates), space=GATES)
    if bucket.is_sorted:
        calls["lane_jobs"] = session.call(
            "lane_jobs", queue=queue, flow=queue_part(queue), limit=MOST_SORTED
        )
    calls["absorb_arrivals"] = session.call("absorb_arrivals", queue=queue, limit=MOST_ARRIVALS)
    calls["reopen_lanes"] = session.call("reopen_lanes", queue=queue, node=node, limit=MOST_OPENED)
    calls["claim_lanes"] = session.call(
        "claim_lanes",
        queue=queue,
        node=node,
        name=name,
        limit=limit,
        places=bucket.places,
        late=late,
    )
    return calls


def read_lanes(queue: str, rows: Mapping[str, Sequence[Row]]) -> tuple[list[Claim], LaneLook]:
    """The claims from the lanes of a queue, in their order in line, and what else was found."""
    claims = [
        Claim(*row)._replace(priority=rank_of(row[4])) for row in rows["claim_lanes"] if row[0]
    ]
    claims.sort(key=lambda claim: (claim.priority, claim.seq))
    fate = next((row for row in rows["claim_lanes"] if row[0] is None), None)
    if fate is None:  # this node is past its lease
        return claims, LaneLook(queue, False, 1.0, False, False, True, is_void=True)
    taken, _, waits, has_lanes, left, is_full, gates = fate[1:8]
    is_behind = bool(rows["absorb_arrivals"] and rows["absorb_arrivals"][0][0])
    return claims, LaneLook(
        queue,
        is_full=is_full or is_behind or gates is not None,
        opens_in=fate[9],
        waits_for_jobs=waits is not None,
        is_held_up=left > 0 and not taken,
        has_lanes=bool(has_lanes) or is_behind,
        gates=tuple(gates.split("\n")) if gates else (),
    )


class Flow:
    """Statements on rules and lanes, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def register_flows(
        self,
        rows: Sequence[FlowRow],
        retired: Sequence[str],
        queues: Mapping[str, QueueRules],
    ) -> None:
        """Have these rules of the code hold, and not those of the ``retired`` flows any more.

        ``queues``: whether each of these is fair, and how many jobs may wait in it. What was set
        by hand stays.
        """
        calls = [
            self._session.call(
                "register_flows",
                flows=[row.flow for row in rows],
                amounts=[row.amount for row in rows],
                periods=[row.period for row in rows],
                bys=[row.by for row in rows],
                bursts=[row.burst for row in rows],
                algorithms=[row.algorithm for row in rows],
                scopes=[row.scope for row in rows],
            ),
            self._session.call("retire_flows", flows=list(retired)),
        ]
        if queues:
            rules = list(queues.values())
            calls.append(
                self._session.call(
                    "register_queues",
                    queues=list(queues),
                    paths=[each.fair for each in rules],
                    ageings=[each.ageing for each in rules],
                    depths=[each.max_depth for each in rules],
                    choices=[each.choice for each in rules],
                    waits=[each.full_wait if each.choice == WAIT else None for each in rules],
                )
            )
        changed = [flow for (flow,) in self._session.run(calls)[0]]
        if changed:
            reopen_flows(self._session, changed)

    def weigh_lanes(self, queue: str, key: str, weight: float) -> None:
        """Have the lanes of a key take so many turns where others take one, from now on."""
        self._session.run(
            [
                self._session.call("pin_plans"),
                self._session.call("lock_limits", locked=[queue]),
                self._session.call("weigh_lanes", queue=queue, share=f"share={key}", weight=weight),
            ]
        )

    def prune_gates(self, limit: int) -> int:
        """Delete gates that are as new again; how many."""
        calls = [self._session.call("pin_plans"), self._session.call("prune_gates", limit=limit)]
        return int(self._session.run(calls)[1][0][0])


def reopen_flows(session: Session, flows: Sequence[str]) -> None:
    """Have the lanes that these flows have shut looked at anew: their rules have changed.

    After that is committed: what is claimed from then on goes by the new rules.
    """
    with session.transaction():
        queues = [queue for (queue,) in session.fetch("lock_laned")]
        if queues:
            session.fetch("reopen_flows", queues=queues, flows=list(flows))


def find_calls(session: Session, queues: Sequence[str]) -> Call:
    """The statement that asks which of these queues have lanes."""
    return session.call("find_laned", queues=list(queues))
