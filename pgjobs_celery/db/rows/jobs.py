"""The rows of ``jobs``: put in line, claim, settle, stage, rescue, prune."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import psycopg

from ...errors import PgJobsError
from ...job.outcome import Outcome
from ...job.rows import Bucket, Claim, Fence, NewJob, Slots
from ...job.states import State
from .. import notify
from ..connection import CONNECTION_ERRORS, Call, array_literal
from ..notify import waiter
from .results import possible_ids

if TYPE_CHECKING:
    from ..database import Database


#: How long a statement may take to reach the server, in seconds, a new connection included.
SLACK = 10.0
#: How long a revoke waits for a transaction that publishes what it revokes, in milliseconds.
FORBID_PATIENCE = 2000


class Rescue(NamedTuple):
    """What a rescue has found."""

    #: The names of the dead.
    nodes: list[str]
    #: How many jobs went back in line, and how many were discarded.
    returned: int
    discarded: int


class Turn(NamedTuple):
    """What one transaction of a node has done."""

    claims: list[Claim]
    #: The outcomes that changed nothing because the claim was lost before.
    lost: list[Outcome]
    #: What became of the others, by the number of the row.
    settled: dict[int, State]
    #: How many places the limited queues had when the outcomes were written, before anything was
    #: taken; not of one whose limit is gone.
    places: dict[str, Slots]


class Jobs:
    """What can be done to job rows; one method for each statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert_job(
        self,
        job: NewJob,
        holder: Fence | None = None,
        *,
        parent: Fence | None = None,
        is_repeated: bool = False,
        is_surely_here: bool = True,
        first: float | None = None,
    ) -> bool:
        """Put a job in line, committed when this returns, and wake who waits for its queue.

        False if nothing changed, because its id waits or runs. ``holder`` is the claim of the
        job's own run when that publishes it again, ``parent`` that of its parent, which may be
        lost. ``is_repeated``: its parent has run before, and may have published it then.
        ``is_surely_here``: the holder's claim is one in this database, so that where it does not
        stand any more the job is another's. ``first``: when it was sent before, by the monotonic
        clock, if the answer to that was cut off.
        """

        def insert() -> Call:
            nonlocal first
            since = None if first is None else time.monotonic() - first + SLACK
            first = first or time.monotonic()
            return self._database.call(
                "insert_job",
                holder=holder and holder.node,
                holder_attempt=holder and holder.attempt,
                parent=parent and parent.node,
                parent_attempt=parent and parent.attempt,
                is_repeated=is_repeated,
                is_holder_only=holder is not None and is_surely_here,
                since=since,
                channel=self._database.joined_channel,
                **job._asdict(),
            )

        if self._database.is_joined and holder is None and self.insert_new_job(job):
            return True
        # Twice does no harm: the second finds what the first has put there.
        return bool(
            self._database.retrying(lambda: self._database.run([insert()], *self.wakes(job)))[0]
        )

    def insert_new_job(self, job: NewJob) -> bool:
        """As :meth:`insert_job`, in less time; False, and nothing changed, if its id is there."""
        rows = self._database.fetch(
            "insert_new_job", channel=self._database.joined_channel, **job._asdict()
        )
        return bool(rows)

    def insert_jobs(self, jobs: Sequence[NewJob], keys: Sequence[bytes | None]) -> dict[int, int]:
        """Put jobs in line in their order, each with its unique key; nobody is woken.

        Those whose id or key is there already, in whatever state, are not put, nor are those that
        are not the first with theirs here: their places in line by their numbers, from 0 on.
        """
        seen: set[str | bytes] = set()
        are_first = []
        for job, key in zip(jobs, keys, strict=True):
            names: set[str | bytes] = {job.task_id} if key is None else {job.task_id, key}
            are_first.append(not names & seen)
            seen |= names
        columns = dict(zip(NewJob._fields, zip(*jobs, strict=True), strict=True))
        rows = self._database.fetch(
            "insert_jobs",
            task_ids=columns["task_id"],
            tasks=columns["task"],
            queues=columns["queue"],
            root_ids=columns["root_id"],
            parent_ids=columns["parent_id"],
            group_ids=columns["group_id"],
            group_indexes=columns["group_index"],
            expiries=columns["expires_at"],
            messages=columns["message"],
            bodies=columns["body"],
            priorities=columns["priority"],
            max_attempts=columns["max_attempts"],
            tags=[array_literal(tags) for tags in columns["tags"]],
            metas=columns["meta"],
            unique_keys=list(keys),
            etas=columns["eta"],
            ttls=columns["ttl"],
            are_first=are_first,
        )
        return dict(rows)

    def wakes(self, job: NewJob) -> list[list[Call]]:
        """The transactions that tell workers of a job, after its own; in a caller's transaction
        the statement does, which saves a round trip."""
        if self._database.is_joined:
            return []
        wakes = [[self._wake(notify.JOB, job.queue)]]
        if job.eta is not None:
            wakes.append([self._wake(notify.DUE)])
        return wakes

    def forbid_jobs(self, task_ids: Sequence[str]) -> None:
        """Have jobs that are not published yet be cancelled when they are.

        Waits a little for who is just publishing one of them, in a transaction of the caller's own
        perhaps. Raises PgJobsError if that takes longer.
        """
        try:
            with self._database.joining():
                self._database.run(
                    [
                        self._database.call("pin_plans"),
                        self._database.call("wait_briefly", milliseconds=FORBID_PATIENCE),
                        self._database.call("forbid_jobs", task_ids=possible_ids(task_ids)),
                    ]
                )
        except psycopg.errors.LockNotAvailable:
            raise PgJobsError(
                "one of these tasks is being published in a transaction that has not ended: "
                "revoke it once that has"
            ) from None

    def claim_jobs(
        self,
        node: UUID,
        name: str,
        buckets: Sequence[Bucket],
        limit: int,
        outcomes: Sequence[Outcome] = (),
        read: Sequence[int] = (),
        returned: Sequence[int] = (),
        late: Sequence[str] | None = None,
    ) -> tuple[list[Claim], list[Outcome]]:
        """Settle ``outcomes``, then take up to ``limit`` ready jobs, each for one attempt.

        One transaction, in which messages are deleted (``read``) and put back (``returned``) too.
        Returns the claims in the order of priority, buckets and place in line, and the outcomes
        that changed nothing because the claim was lost before. ``late`` names the tasks that are
        acknowledged when they end; None for all.
        """
        turn = self.claim_limited_jobs(
            node, name, buckets, limit, outcomes, read, returned, late, ()
        )
        return turn.claims, turn.lost

    def claim_limited_jobs(
        self,
        node: UUID,
        name: str,
        buckets: Sequence[Bucket],
        limit: int,
        outcomes: Sequence[Outcome],
        read: Sequence[int],
        returned: Sequence[int],
        late: Sequence[str] | None,
        limited: Collection[str],
    ) -> Turn:
        """As :meth:`claim_jobs`, where some queues are ``limited`` for all workers together.

        Each of those may have one bucket only; from one that is limited and not named here nothing
        is taken. Who waits for a queue that was full and is not any more is woken.
        """
        locked = sorted(limited)
        calls = [self._database.call("pin_plans")]
        if outcomes:
            calls.append(self._settle(node, outcomes))
        if read:
            calls.append(self._database.call("delete_messages", node=node, ids=list(read)))
        if returned:
            calls.append(self._database.messages.release(node, returned))
        counted = len(calls) + 1
        if locked:
            calls.append(self._database.call("lock_limits", locked=locked))
            calls.append(self._database.call("free_slots", locked=locked))
        if buckets and limit > 0:
            calls.append(
                self._database.call(
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
                )
            )
        rows = self._database.run(calls)
        settled = {row[0]: State(row[1]) for row in rows[1]} if outcomes else {}
        claims = [Claim(*row) for row in rows[-1]] if buckets and limit > 0 else []
        order = {bucket.queue: index for index, bucket in reversed(list(enumerate(buckets)))}
        claims.sort(key=lambda claim: (claim.priority, order[claim.queue], claim.seq))
        lost = [outcome for outcome in outcomes if outcome.id not in settled]
        if not locked:
            return Turn(claims, lost, settled, {})
        places = {queue: Slots(*row) for queue, *row in rows[counted] if row[0] is not None}
        self._wake_refused(places, Counter(claim.queue for claim in claims))
        return Turn(claims, lost, settled, places)

    def begin_jobs(self, node: UUID, attempts: Sequence[tuple[int, int]]) -> None:
        """Have these (number of the row, attempt) not go back in line if ``node`` dies."""
        ids, numbers = zip(*attempts, strict=True)
        self._database.run(
            [
                self._database.call("pin_plans"),
                self._database.call("begin_jobs", node=node, ids=list(ids), attempts=list(numbers)),
            ]
        )

    def requeue_success(self, id: int, attempt: int) -> bool:
        """Put back in line what that attempt finished with a SUCCESS of its own.

        False where it did not, or where the job has no other attempt left.
        """
        rows = self._database.run(
            [
                self._database.call("pin_plans"),
                self._database.call("requeue_success", id=id, attempt=attempt),
            ]
        )[1]
        for (queue,) in rows:
            self._database.run([self._wake(notify.BACK, queue)])
        return bool(rows)

    def settle_jobs(self, node: UUID, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Write what became of claimed jobs; returns those whose claim was lost before."""
        return self.claim_jobs(node, "", (), 0, outcomes)[1]

    def release_unknown_jobs(self, node: UUID, queues: Sequence[str], known: Iterable[int]) -> int:
        """Put back what ``node`` claimed without learning of it; how many those were."""
        calls = [
            self._database.call("pin_plans"),
            self._database.call(
                "release_unknown_jobs", node=node, queues=list(queues), known=list(known)
            ),
        ]
        return len(self._database.run(calls)[1])

    def stage_jobs(self, limit: int) -> dict[str, int]:
        """Move up to ``limit`` due jobs into line and wake who waits; how many for each queue."""
        rows = self._database.run(
            [self._database.call("pin_plans"), self._database.call("stage_jobs", limit=limit)]
        )[1]
        if rows:
            self._database.run(*([self._wake(notify.JOB, queue)] for queue, _ in rows))
        return dict(rows)

    def next_due(self) -> float | None:
        """Seconds until the next job is due (0 or less if one is); None if none waits."""
        rows = self._database.run(
            [self._database.call("pin_plans"), self._database.call("next_due")]
        )[1]
        return rows[0][0] if rows else None

    def rescue_jobs(self, *, dead: bool = True) -> Rescue:
        """Take from nodes that are past their lease what they held, and wake who waits for it.

        With ``dead`` false only from nodes that have no row any more.
        """
        names = (
            ("pin_plans", "condemn_nodes", "rescue_jobs") if dead else ("pin_plans", "rescue_jobs")
        )
        rows = self._database.run([self._database.call(name) for name in names])[-1]
        jobs = [row for row in rows if row[0] == "job"]
        # Of a queue with a limit a place is free, even where the job was discarded.
        back = {queue for _, queue, _, _ in jobs}
        mail = {queue for kind, queue, _, _ in rows if kind == "message"}
        if back or mail:
            self._database.run(
                *([self._wake(notify.BACK, queue)] for queue in back),
                *([self._wake(notify.MESSAGE, queue)] for queue in mail),
            )
        return Rescue(
            nodes=[name for kind, name, _, _ in rows if kind == "node"],
            returned=sum(count for _, _, state, count in jobs if state == State.AVAILABLE),
            discarded=sum(count for _, _, state, count in jobs if state != State.AVAILABLE),
        )

    def find_excess(self, state: State, count: int) -> datetime | None:
        """When the newest of those ended that are more than ``count``; None if there are none."""
        rows = self._database.fetch("find_excess", state=state.value, count=count)
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
        rows = self._database.run(
            [
                self._database.call("pin_plans"),
                self._database.call(
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
        calls = [self._database.call("pin_plans"), self._database.call("find_ready", queues=queues)]
        return [queue for (queue,) in self._database.run(calls)[1]]

    def count_ready(self, queue: str) -> int:
        """How many jobs and messages a consumer of the queue would get."""
        return int(self._database.fetch("count_ready", queue=queue)[0][0])

    def has_due_job(self, queue: str) -> bool:
        """True if a job of the queue waits for its time."""
        return bool(self._database.fetch("find_due_job", queue=queue))

    def purge_jobs(self, queue: str, batch: int = 10_000) -> int:
        """Cancel every job of the queue that has not been claimed; how many."""
        total = 0
        while count := self._database.fetch("purge_jobs", queue=queue, limit=batch)[0][0]:
            total += count
        return total

    def _wake_refused(self, places: Mapping[str, Slots], taken: Mapping[str, int]) -> None:
        """Wake who may have been refused by a queue that was full and has places now."""
        wakes = [
            # As if a job had been put back, for which everything is looked at again.
            [self._wake(notify.BACK, queue)]
            for queue, (free, before) in places.items()
            if before <= 0 < free - taken.get(queue, 0)
        ]
        # The claims are committed, and must not be lost for a wake-up.
        with contextlib.suppress(*CONNECTION_ERRORS):
            if wakes:
                self._database.run(*wakes)

    def _wake(self, kind: str, name: str = "") -> Call:
        return self._database.wake(kind, name)

    def _settle(self, node: UUID, outcomes: Sequence[Outcome]) -> Call:
        return self._database.call(
            "settle_jobs",
            node=node,
            ids=[outcome.id for outcome in outcomes],
            attempts=[outcome.attempt for outcome in outcomes],
            states=[outcome.state.value for outcome in outcomes],
            counts=["t" if outcome.counts else "f" for outcome in outcomes],
            delays=[outcome.delay for outcome in outcomes],
            errors=[outcome.error for outcome in outcomes],
            results=[outcome.result and outcome.result.result for outcome in outcomes],
            result_types=[outcome.result and outcome.result.result_type for outcome in outcomes],
            children=[outcome.result and outcome.result.children for outcome in outcomes],
            leaves=["t" if outcome.leaves_report else "f" for outcome in outcomes],
            waiters=[outcome.awaited and waiter(outcome.awaited) for outcome in outcomes],
            losses=["t" if outcome.was_lost else "f" for outcome in outcomes],
            channel=notify.result_channel(self._database.schema),
            kind=notify.RESULT,
            work_channel=notify.work_channel(self._database.schema),
            back=notify.BACK,
            due=notify.DUE,
            space=notify.SLEEPERS,
        )
