"""Claims of jobs: take, settle, release, stage, rescue; and prune what has ended."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ...job.outcome import Outcome
from ...job.rows import FIRST_PLACE, Bucket, Claim, Slots
from ...job.states import State
from .. import notify
from ..connection import CONNECTION_ERRORS, Call
from .flow import MOST_SHUT, LaneLook, find_calls, lane_calls, read_lanes
from .messages import Messages
from .settling import read_settled, settle_calls

if TYPE_CHECKING:
    from ..session import Session


class Rescued(NamedTuple):
    """The findings of a rescue."""

    #: The names of the dead.
    nodes: list[str]
    #: How many jobs went back in line, and how many were discarded.
    returned: int
    discarded: int


class Pending(NamedTuple):
    """A node's notes that one transaction writes, before it claims."""

    #: A mark for each task of a chord that has ended: none is written, they go with the outcomes.
    parts: Sequence[bool] = ()
    outcomes: Sequence[Outcome] = ()
    #: Messages to delete, and to put back, by the numbers of their rows.
    read: Sequence[int] = ()
    returned: Sequence[int] = ()
    #: Limited queues in which a job has ended.
    freed: Sequence[str] = ()


class Turn(NamedTuple):
    """The effect of one transaction of a node."""

    claims: list[Claim]
    #: The outcomes that changed nothing because the claim was lost before.
    lost: list[Outcome]
    #: The new states of the others, by the number of the row.
    settled: dict[int, State]
    #: How many places the limited queues had when the outcomes were written, before anything was
    #: taken; not of one whose limit is gone.
    places: dict[str, Slots]
    #: The other findings of a look at lanes.
    lanes: LaneLook | None = None
    #: After a look at everything: those of its queues that have lanes.
    laned: list[str] | None = None


class Ahead(NamedTuple):
    """What is due next. Times are seconds from now, 0 or less for what is due; None for never."""

    #: The next job.
    job: float | None
    #: The next end of a pause, of a queue or of jobs.
    pause: float | None
    #: Signals have come, or jobs have begun to wait for some.
    has_signals: bool


class Claims:
    """Statements on job rows that workers claim, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def claim_jobs(
        self,
        node: UUID,
        name: str,
        buckets: Sequence[Bucket],
        limit: int,
        outcomes: Sequence[Outcome] = (),
        *,
        late: Sequence[str] | None = None,
    ) -> tuple[list[Claim], list[Outcome]]:
        """Settle ``outcomes``, then take up to ``limit`` ready jobs, each for one attempt.

        Returns the claims, and the outcomes that changed nothing because the claim was lost before.
        """
        turn = self.turn(node, Pending(outcomes=outcomes), buckets, limit, late, name=name)
        return turn.claims, turn.lost

    def turn(
        self,
        node: UUID,
        pending: Pending,
        buckets: Sequence[Bucket] = (),
        limit: int = 0,
        late: Sequence[str] | None = None,
        *,
        name: str = "",
        limited: Collection[str] = (),
        bound: int = 0,
        ended: Sequence[int] = (),
    ) -> Turn:
        """Write what is ``pending``, then take up to ``limit`` ready jobs, each for one attempt.

        One transaction. The claims come in the order of priority, buckets and place in line.
        ``late`` names the tasks that are acknowledged when they end; None for all. ``name`` is the
        node's, for people.

        Some of the queues are ``limited`` for all workers together. Each of those may have one
        bucket only; from one that is limited and not named here nothing is taken. Workers that wait
        for a queue that was full and is not any more are woken. Jobs with steps may be interrupted
        up to ``bound`` times without losing an attempt. A bucket of lanes is the only one.
        ``ended``: the outcomes' jobs that came from other lanes; who waits there is woken.
        """
        lanes = next((bucket for bucket in buckets if bucket.is_laned and limit > 0), None)
        locked = sorted({*limited, *pending.freed, *([lanes.queue] if lanes else ())})
        calls = {"pin_plans": self._session.call("pin_plans")}
        calls |= self._writes(node, pending, bound)
        if lanes:
            calls["open_queue"] = self._session.call("open_queue", queue=lanes.queue)
        if locked:
            calls["lock_limits"] = self._session.call("lock_limits", locked=locked)
            calls["free_slots"] = self._session.call("free_slots", locked=locked)
        if lanes:
            calls |= lane_calls(self._session, lanes, node, name, limit, late)
        elif buckets and limit > 0:
            is_alone = len(calls) == 1
            calls["claim_jobs"] = self._claim(node, name, buckets, limit, late, locked, is_alone)
            if all(bucket.floor == FIRST_PLACE for bucket in buckets):
                calls["find_laned"] = find_calls(self._session, sorted({b.queue for b in buckets}))
        if ended:
            calls["find_freed"] = self._session.call("find_freed", ids=list(ended), limit=MOST_SHUT)
        rows = dict(zip(calls, self._session.run(list(calls.values())), strict=True))
        self._wake([queue for (queue,) in rows.get("find_freed", ())])
        settled = read_settled(rows)
        look = None
        if lanes:
            claims, look = read_lanes(lanes.queue, rows)
        else:
            claims = [Claim(*row) for row in rows.get("claim_jobs", ())]
            order = {bucket.queue: index for index, bucket in reversed(list(enumerate(buckets)))}
            claims.sort(key=lambda claim: (claim.priority, order[claim.queue], claim.seq))
        laned = [queue for (queue,) in rows["find_laned"]] if "find_laned" in rows else None
        lost = [outcome for outcome in pending.outcomes if outcome.id not in settled]
        if not locked:
            return Turn(claims, lost, settled, {}, look, laned)
        places = {queue: Slots(*row) for queue, *row in rows["free_slots"] if row[0] is not None}
        self._wake_refused(places, Counter(claim.queue for claim in claims))
        return Turn(claims, lost, settled, places, look, laned)

    def begin_jobs(self, node: UUID, attempts: Sequence[tuple[int, int]]) -> None:
        """Have these (number of the row, attempt) not go back in line if ``node`` dies."""
        ids, numbers = zip(*attempts, strict=True)
        self._session.run(
            [
                self._session.call("pin_plans"),
                self._session.call("begin_jobs", node=node, ids=list(ids), attempts=list(numbers)),
            ]
        )

    def requeue_success(self, id: int, attempt: int) -> bool:
        """Put back in line what that attempt finished with a SUCCESS of its own.

        False where it did not, or where the job has no other attempt left.
        """
        rows = self._session.run(
            [
                self._session.call("pin_plans"),
                self._session.call("requeue_success", id=id, attempt=attempt),
            ]
        )[1]
        for (queue,) in rows:
            self._session.run([self._session.wake(notify.BACK, queue)])
        return bool(rows)

    def settle_jobs(self, node: UUID, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Write what became of claimed jobs; returns those whose claim was lost before."""
        return self.turn(node, Pending(outcomes=outcomes)).lost

    def release_unknown_jobs(self, node: UUID, queues: Sequence[str], known: Iterable[int]) -> int:
        """Put back what ``node`` claimed without learning of it; how many those were."""
        calls = [
            self._session.call("pin_plans"),
            self._session.call(
                "release_unknown_jobs", node=node, queues=list(queues), known=list(known)
            ),
        ]
        return len(self._session.run(calls)[1])

    def stage_jobs(self, limit: int) -> dict[str, int]:
        """Move up to ``limit`` due jobs into line and wake who waits; how many for each queue."""
        rows = self._session.run(
            [self._session.call("pin_plans"), self._session.call("stage_jobs", limit=limit)]
        )[1]
        if rows:
            self._session.run(*([self._session.wake_for_jobs(*row)] for row in rows))
        return dict(rows)

    def next_due(self) -> float | None:
        """Seconds until the next job is due (0 or less if one is); None if none waits."""
        rows = self._session.run([self._session.call("pin_plans"), self._session.call("next_due")])[
            1
        ]
        return rows[0][0] if rows else None

    def look_ahead(self) -> Ahead:
        """What is due next, of all that a worker does at its time or when told."""
        names = ("pin_plans", "next_due", "look_ahead")
        _, due, rest = self._session.run([self._session.call(name) for name in names])
        return Ahead(due[0][0] if due else None, *rest[0])

    def rescue_jobs(self, *, dead: bool = True, bound: int = 0) -> Rescued:
        """Take from nodes that are past their lease what they held, and wake who waits for it.

        With ``dead`` false only from nodes that have no row any more. It costs jobs with steps no
        attempt, up to ``bound`` times.
        """
        names = (
            ("pin_plans", "condemn_nodes", "rescue_jobs") if dead else ("pin_plans", "rescue_jobs")
        )
        rows = self._session.run([self._session.call(name, bound=bound) for name in names])[-1]
        jobs = [row for row in rows if row[0] == "job"]
        # Of a queue with a limit a place is free, even where the job was discarded.
        back = {queue for _, queue, _, _ in jobs}
        mail = {queue for kind, queue, _, _ in rows if kind == "message"}
        if back or mail:
            self._session.run(
                *([self._session.wake(notify.BACK, queue)] for queue in back),
                *([self._session.wake(notify.MESSAGE, queue)] for queue in mail),
            )
        return Rescued(
            nodes=[name for kind, name, _, _ in rows if kind == "node"],
            returned=sum(count for _, _, state, count in jobs if state == State.AVAILABLE),
            discarded=sum(count for _, _, state, count in jobs if state != State.AVAILABLE),
        )

    def find_excess(self, state: State, count: int) -> datetime | None:
        """When the newest of those ended that are more than ``count``; None if there are none."""
        rows = self._session.fetch("find_excess", state=state.value, count=count)
        return rows[0][0] if rows else None

    def prune_jobs(
        self,
        state: State,
        max_age: float | None,
        until: datetime | None,
        since: datetime | None,
        limit: int,
    ) -> tuple[int, datetime | None]:
        """Delete up to ``limit`` jobs that ended in ``state`` and are old enough.

        Old enough is longer than ``max_age`` seconds ago, or up to ``until``; what ended before
        ``since`` is not looked at. Returns how many, and when the last of them ended.
        """
        rows = self._session.run(
            [
                self._session.call("pin_plans"),
                self._session.call(
                    "prune_jobs",
                    state=state.value,
                    max_age=max_age,
                    until=until,
                    since=since,
                    limit=limit,
                ),
            ]
        )[1]
        return int(rows[0][0]), rows[0][1]

    def find_ready(self, queues: Sequence[str]) -> list[str]:
        """Those of the queues in which a job waits that a claim would take at once."""
        calls = [self._session.call("pin_plans"), self._session.call("find_ready", queues=queues)]
        return [queue for (queue,) in self._session.run(calls)[1]]

    def _wake_refused(self, places: Mapping[str, Slots], taken: Mapping[str, int]) -> None:
        """Wake who may have been refused by a queue that was full and has places now."""
        self._wake(
            queue
            for queue, (free, before) in places.items()
            if before <= 0 < free - taken.get(queue, 0)
        )

    def _wake(self, queues: Iterable[str]) -> None:
        """As if a job had been put back there, for which everything is looked at again."""
        wakes = [[self._session.wake(notify.BACK, queue)] for queue in queues]
        # The claims are committed, and must not be lost for a wake-up.
        with contextlib.suppress(*CONNECTION_ERRORS):
            if wakes:
                self._session.run(*wakes)

    def _writes(self, node: UUID, pending: Pending, bound: int) -> dict[str, Call]:
        """The statements that write what is pending, by their names."""
        calls: dict[str, Call] = {}
        if pending.outcomes:
            calls |= settle_calls(self._session, node, pending.outcomes, bound)
        if pending.read:
            calls["delete_messages"] = self._session.call(
                "delete_messages", node=node, ids=list(pending.read)
            )
        if pending.returned:
            calls["release_messages"] = Messages(self._session).release(node, pending.returned)
        return calls

    def _claim(
        self,
        node: UUID,
        name: str,
        buckets: Sequence[Bucket],
        limit: int,
        late: Sequence[str] | None,
        locked: Sequence[str],
        is_alone: bool,
    ) -> Call:
        return self._session.call(
            "claim_jobs",
            node=node,
            name=name,
            late=late,
            queues=[bucket.queue for bucket in buckets],
            lowest=[bucket.lowest for bucket in buckets],
            highest=[bucket.highest for bucket in buckets],
            floors=[bucket.floor for bucket in buckets],
            places=[bucket.places for bucket in buckets],
            locked=locked,
            limit=limit,
            is_alone=is_alone,
        )
