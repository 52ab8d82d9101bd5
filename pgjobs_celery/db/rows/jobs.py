"""The rows of ``jobs``: insert, count, purge."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from ...errors import PgJobsError
from ...job.rows import NO_RUN, NewJob, Run
from .. import notify
from ..connection import Call, Row, array_literal
from .audit import Action, Audit
from .results import possible_ids

if TYPE_CHECKING:
    from ..session import Session


#: How long a statement may take to reach the server, in seconds, a new connection included.
SLACK = 10.0
#: How long a revoke waits for a transaction that publishes what it revokes, in milliseconds.
LOCK_TIMEOUT = 2000

#: A job's fields that the statement knows the usual value of, besides None.
_USUAL = {"priority": 0, "tags": (), "meta": "{}"}


class Jobs:
    """Statements on job rows, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._audit = Audit(session)

    def insert_job(
        self,
        job: NewJob,
        run: Run = NO_RUN,
        first: float | None = None,
        *,
        may_be_lost: bool = False,
        is_fresh: bool = False,
    ) -> bool:
        """Insert a job, committed when this returns, and wake a worker that waits for its queue.

        False if nothing changed, because its id waits or runs. ``first``: when it was sent before,
        by the monotonic clock, if the answer to that was cut off. ``may_be_lost``: see
        :meth:`insert_new_job`. ``is_fresh``: see :meth:`insert_fresh_job`, which is tried once.
        """
        begun, tries = time.monotonic(), 0

        def insert() -> bool:
            nonlocal first, tries
            tries += 1
            if tries > 1:
                first = first or begun
            if is_fresh and first is None and not self._session.is_in_transaction:
                self.insert_fresh_job(job, may_be_lost=may_be_lost)
                return True
            is_new = run.holder is None and not run.is_holder_only
            if is_new and self.insert_new_job(job, may_be_lost=may_be_lost):
                return True
            since = None if first is None else time.monotonic() - first + SLACK
            return bool(self._send(self._insertion(job, run, since), job)[0])

        # Twice does no harm: the second try finds what the first has inserted.
        return self._session.retrying(insert)

    def insert_new_job(self, job: NewJob, *, may_be_lost: bool = False) -> bool:
        """As :meth:`insert_job`, in less time; False, and nothing changed, if its id has a row.

        ``may_be_lost``: it is committed before it is on disk, unless it is part of a transaction.
        """
        channel = self._session.joined_channel
        insertion = self._session.call("insert_new_job", channel=channel, **job._asdict())
        settings = relaxing(self._session, may_be_lost)
        return bool(self._send(insertion, job, settings)[len(settings)])

    def insert_fresh_job(self, job: NewJob, *, may_be_lost: bool = False) -> None:
        """As :meth:`insert_new_job`, in less time, for an id that was made for this job just now.

        The job may run at once, and this thread is in no transaction. Raises UniqueViolation if
        the id has a row.
        """
        insertion = self._session.call("insert_fresh_job", **job._asdict())
        self._send(insertion, job, relaxing(self._session, may_be_lost))

    def _send(self, insertion: Call, job: NewJob, settings: Sequence[Call] = ()) -> list[list[Row]]:
        """Run it, and wake workers in the same flush."""
        return self._session.run([*settings, insertion], *wake_calls(self._session, job))

    def _insertion(self, job: NewJob, run: Run, since: float | None) -> Call:
        holder, parent = run.holder, run.parent
        return self._session.call(
            "insert_job",
            holder=holder.node if holder else None,
            holder_attempt=holder.attempt if holder else None,
            parent=parent.node if parent else None,
            parent_attempt=parent.attempt if parent else None,
            is_repeated=run.is_repeated,
            is_holder_only=run.is_holder_only,
            since=since,
            channel=self._session.joined_channel,
            **job._asdict(),
        )

    def insert_jobs(self, jobs: Sequence[NewJob], keys: Sequence[bytes | None]) -> dict[int, int]:
        """Put jobs in line in their order, each with its unique key; no worker is woken.

        Those whose id or key is there already, in whatever state, are not put, nor are those that
        are not the first with theirs here: their places in line by their numbers, from 0 on.
        """
        columns = {
            name: _unless_usual(values, _USUAL.get(name))
            for name, values in zip(NewJob._fields, zip(*jobs, strict=True), strict=True)
        }
        task_ids, tags = [job.task_id for job in jobs], columns["tags"]
        rows = self._session.fetch(
            "insert_jobs",
            task_ids=task_ids,
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
            tags=tags and [array_literal(each) for each in tags],
            metas=columns["meta"],
            unique_keys=_unless_usual(keys, None),
            etas=columns["eta"],
            ttls=columns["ttl"],
            lanes=columns["lane"],
            costs=columns["cost"],
            are_first=_are_first(task_ids, keys),
        )
        return dict(rows)

    def relax_commit(self) -> None:
        """Have the transaction of ours that this thread is in not wait for the disk."""
        self._session.fetch("relax_commit")

    def forbid_jobs(self, task_ids: Sequence[str], action: Action | None = None) -> None:
        """Have jobs that are not published yet be cancelled when they are.

        Waits a little for who is just publishing one of them, in a transaction of the caller's own
        perhaps. Raises PgJobsError if that takes longer.
        """
        try:
            with self._session.joining():
                with self._audit.acting():
                    calls = [
                        self._session.call("pin_plans"),
                        self._session.call("wait_briefly", milliseconds=LOCK_TIMEOUT),
                        self._session.call("forbid_jobs", task_ids=possible_ids(task_ids)),
                    ]
                    ids = [row[0] for row in self._session.run(calls)[2]]
                    if ids and action is not None:
                        self._audit.record_action(action, jobs=len(ids), task_ids=ids)
                if ids and action is not None:
                    action.batches += 1
        except psycopg.errors.LockNotAvailable:
            raise PgJobsError(
                "one of these tasks is being published in a transaction that has not ended: "
                "revoke it once that has"
            ) from None

    def count_ready(self, queue: str) -> int:
        """How many jobs and messages a consumer of the queue would get."""
        return int(self._session.fetch("count_ready", queue=queue)[0][0])

    def has_due_job(self, queue: str) -> bool:
        """True if a job of the queue waits for its time."""
        return bool(self._session.fetch("find_due_job", queue=queue))

    def purge_jobs(self, queue: str, action: Action | None = None, *, batch: int = 10_000) -> int:
        """Cancel every job of the queue that has not been claimed; how many."""
        total = 0
        while True:
            with self._audit.acting():
                count = int(self._session.fetch("purge_jobs", queue=queue, limit=batch)[0][0])
                if count and action is not None:
                    self._audit.record_action(action, jobs=count)
            if not count:
                return total
            total += count
            if action is not None:
                action.batches += 1


def _unless_usual(values: Sequence[Any], usual: Any) -> Sequence[Any] | None:
    """A column of many jobs; None where each of them has the usual value."""
    return None if values.count(usual) == len(values) else values


def _are_first(task_ids: Sequence[str], keys: Sequence[bytes | None]) -> Sequence[bool] | None:
    """Of many jobs, whether each is the first with its id and its key; None where all are."""
    given = [key for key in keys if key is not None]
    if len({*task_ids}) == len(task_ids) and len({*given}) == len(given):
        return None
    seen: set[str | bytes] = set()
    are_first = []
    for task_id, key in zip(task_ids, keys, strict=True):
        names: set[str | bytes] = {task_id} if key is None else {task_id, key}
        are_first.append(not names & seen)
        seen |= names
    return are_first


def relaxing(session: Session, may_be_lost: bool) -> list[Call]:
    """The statement that has a transaction of ours not wait for the disk, if it need not.

    None where other things than a publish may be part of the transaction.
    """
    if not may_be_lost or session.is_in_transaction:
        return []
    return [session.call("relax_commit")]


def wake_calls(session: Session, job: NewJob) -> list[list[Call]]:
    """The transactions that tell workers of a job, after its own; in a caller's transaction
    the statement does, which saves a round trip."""
    if session.is_joined:
        return []
    wakes = [[session.wake_for_jobs(job.queue)]]
    if job.eta is not None:
        wakes.append([session.wake(notify.DUE)])
    return wakes
