"""The rows of ``jobs`` that filters find: list, count, and act on them in batches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import errors as pg

from ...job.job import Job
from ...job.states import State
from .. import notify
from .audit import Action, Audit, Changed
from .receipts import by_id

if TYPE_CHECKING:
    from ..connection import Call, Row
    from ..session import Session

#: How many jobs are read at a time: their arguments may be large.
PAGE = 100
#: How many are changed by one statement, in a transaction of its own.
BATCH = 1000
#: How long such a statement waits for a row that another session holds, in milliseconds. A claim
#: is over sooner. A statement that waits for longer gives way, before deadlock_timeout (a second):
#: so the server never chooses a worker's statement to fail.
LOCK_TIMEOUT = 100

#: The filters as :meth:`pgjobs_celery.control.filters.Filters.parameters` gives them.
Parameters = Mapping[str, Any]
#: Is told, after each batch, how many jobs it was.
OnBatch = Callable[[int], object]


class Survey(NamedTuple):
    """Facts about the table, known before it is searched."""

    #: The number of the newest job; None for an empty table.
    newest: int | None
    #: About how many rows there are.
    rows: float
    #: The columns by which indexes of the whole table begin.
    indexed: list[str]


class Matches:
    """Statements on jobs that filters find, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._audit = Audit(session)

    def survey_jobs(self) -> Survey:
        """How large the table is, and how it is indexed."""
        with self._session.joining():
            rows = self._session.retrying(lambda: self._session.fetch("survey_jobs"))
        return Survey(*rows[0])

    def list_jobs(
        self, filters: Parameters, *, newest: bool = False, limit: int | None = None
    ) -> Iterator[Job]:
        """The jobs, oldest first or newest first, read as they are asked for, page by page."""
        after = until = None
        while limit is None or limit > 0:
            size = PAGE if limit is None else min(PAGE, limit)
            span = {"after": after, "until": until, "newest": newest, "limit": size}
            rows = self._read("list_jobs", {**filters, **span})
            rows.sort(key=lambda row: row[0], reverse=newest)
            yield from map(_to_job, rows)
            if len(rows) < size:
                return
            if newest:
                until = rows[-1][0] - 1
            else:
                after = rows[-1][0]
            limit = None if limit is None else limit - size

    def get_messages(self, task_ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        """The envelope and body of each of the jobs, as they were published."""
        rows = self._read("get_results", {"task_ids": list(task_ids), "extended": True})
        return {row[0]: (row[-2], bytes(row[-1])) for row in rows if row[-2] is not None}

    def find_ids(self, beginning: str, limit: int) -> list[str]:
        """Some task ids that begin like this; reads the whole table for it."""
        rows = self._read("find_ids", {"beginning": beginning, "limit": limit})
        return [task_id for (task_id,) in rows]

    def count_matched(self, filters: Parameters) -> dict[State, int]:
        """How many there are, by state; those states that some are in."""
        span = {"after": None, "until": None, "newest": None, "limit": None}
        rows = self._read("count_matched", {**filters, **span})
        return {State(state): count for state, count in rows}

    def cancel_jobs(
        self,
        filters: Parameters,
        until: int,
        on_batch: OnBatch,
        *,
        action: Action | None = None,
        reason: str | None,
        signal: str | None,
    ) -> list[str]:
        """Cancel what waits, and have the workers told of what runs."""

        def wakes(changed: Sequence[Changed]) -> Iterator[Call]:
            if any(job.state is State.EXECUTING for job in changed):
                yield self._session.wake(notify.CANCEL)
            if ids := [job.task_id for job in changed if job.state is State.CANCELLED]:
                yield self._session.wake_waiters(ids)

        values = {"reason": reason, "signal": signal}
        return self._act("cancel_jobs", {**filters, **values}, until, on_batch, action, wakes)

    def retry_jobs(
        self,
        filters: Parameters,
        until: int,
        on_batch: OnBatch,
        *,
        action: Action | None = None,
        keeps_time: bool = False,
        forget_steps: bool = False,
    ) -> list[str]:
        """Put them in line again, whatever became of them; or from their beginning."""

        def forget(ids: Sequence[int]) -> list[Call]:
            return [self._session.call("forget_steps", jobs=list(ids))] if forget_steps else []

        values = {**filters, "keeps_time": keeps_time}
        return self._act("retry_jobs", values, until, on_batch, action, self._due_or_back, forget)

    def delete_jobs(
        self, filters: Parameters, until: int, on_batch: OnBatch, *, action: Action | None = None
    ) -> list[str]:
        """Take their rows away."""
        return self._act("delete_jobs", filters, until, on_batch, action, lambda changed: ())

    def reschedule_jobs(
        self,
        filters: Parameters,
        until: int,
        on_batch: OnBatch,
        *,
        action: Action | None = None,
        eta: datetime | None,
        countdown: float | None,
    ) -> list[str]:
        """Give what waits another time; now, if that is past."""

        values = {**filters, "eta": eta, "countdown": countdown}
        return self._act("reschedule_jobs", values, until, on_batch, action, self._due_or_back)

    def prioritize_jobs(
        self,
        filters: Parameters,
        until: int,
        on_batch: OnBatch,
        *,
        priority: int,
        action: Action | None = None,
    ) -> list[str]:
        """Give what waits another rank."""
        values = {**filters, "priority": priority}
        return self._act("prioritize_jobs", values, until, on_batch, action, self._back)

    def move_jobs(
        self,
        filters: Parameters,
        until: int,
        on_batch: OnBatch,
        *,
        to: str,
        action: Action | None = None,
    ) -> list[str]:
        """Put what waits into another queue."""
        return self._act("move_jobs", {**filters, "to": to}, until, on_batch, action, self._back)

    def _due_or_back(self, changed: Sequence[Changed]) -> Iterator[Call]:
        if any(job.state is not State.AVAILABLE for job in changed):
            yield self._session.wake(notify.DUE)
        yield from self._back(changed)

    def _back(self, changed: Sequence[Changed]) -> Iterator[Call]:
        for queue in sorted({job.queue for job in changed if job.state is State.AVAILABLE}):
            yield self._session.wake(notify.BACK, queue)

    def _read(self, name: str, values: Parameters) -> list[Row]:
        with self._session.joining():
            values = by_id(self._session, values)
            calls = [self._session.call("plan_anew"), self._session.call(name, **values)]
            return self._session.retrying(lambda: self._session.run(calls)[1])

    def _act(
        self,
        name: str,
        values: Parameters,
        until: int,
        on_batch: OnBatch,
        action: Action | None,
        wakes: Callable[[Sequence[Changed]], Iterator[Call] | Sequence[Call]],
        along: Callable[[Sequence[int]], Sequence[Call]] = lambda ids: (),
    ) -> list[str]:
        """Run an action until no job is left; the task ids of those that it changed.

        A row that another session holds is waited for and never passed over. But a batch that has
        locks of its own must not wait long, or it and a worker that settles the same jobs in
        another order wait for each other: it gives way and comes back smaller, and only where it
        is a single row it waits for as long as it takes. In a caller's transaction, which giving
        way would end, it always does.
        """
        with self._session.joining():
            values = by_id(self._session, values)
            changed: list[str] = []
            after, size = action.through if action is not None else None, BATCH
            within = action.within if action is not None else None
            while True:
                span = {"after": after, "until": until, "newest": False, "limit": size}
                try:
                    with self._audit.acting():
                        rows = self._change(name, {**values, **span}, size)
                        # In the same transaction, of the rows that were changed.
                        if more := along([row[0] for row in rows if row[1] is not None]):
                            self._session.run(more)
                        batch = [
                            Changed(row[1], row[2], State(row[3]))
                            for row in rows
                            if row[1] is not None
                        ]
                        if batch and action is not None:
                            self._record(action, batch, is_last=len(rows) < size)
                        through = max((row[0] for row in rows), default=after)
                        if within is not None:
                            within(through, batch)
                except (pg.LockNotAvailable, pg.DeadlockDetected, pg.UniqueViolation) as error:
                    # The holder of the unique key of one of them is seen the next time.
                    if self._session.is_joined or (
                        size == 1 and not isinstance(error, pg.UniqueViolation)
                    ):
                        raise
                    size = max(1, size // 4)
                    continue
                after = through
                if batch and action is not None:
                    action.batches += 1
                if calls := list(wakes(batch)):
                    self._session.run(*([call] for call in calls))
                changed += [job.task_id for job in batch]
                on_batch(len(rows))
                if len(rows) < size:
                    return changed
                size = min(BATCH, size * 2)

    def _change(self, name: str, values: Parameters, size: int) -> list[Row]:
        wait = LOCK_TIMEOUT if size > 1 else 0
        calls = [
            self._session.call("plan_anew"),
            self._session.call("wait_briefly", milliseconds=wait),
            self._session.call(name, **values),
        ]
        return self._session.run(calls)[2]

    def _record(self, action: Action, batch: Sequence[Changed], *, is_last: bool) -> None:
        # Moved jobs are in their new queue already.
        queues = set() if "to" in action.details else {job.queue for job in batch}
        self._audit.record_action(
            action,
            jobs=len(batch),
            task_ids=[job.task_id for job in batch],
            queue=queues.pop() if len(queues) == 1 and is_last and not action.batches else None,
        )


def _to_job(row: Row) -> Job:
    (id, task_id, task, queue, state, attempt, max_attempts, priority, tags, meta, args, kwargs,
     errors, inserted_at, scheduled_at, attempted_at, finished_at, attempted_by, root_id, parent_id,
     group_id, cancel_requested_at, cancel_reason, superseded_by, retries,
     has_own_limit, fingerprint, lane, cost, idempotency_key) = row  # fmt: skip
    return Job(
        task_id=task_id,
        task=task,
        queue=queue,
        state=State(state),
        attempt=attempt,
        max_attempts=max_attempts,
        priority=priority,
        tags=tuple(tags),
        meta=_decode(meta, dict) or {},
        args=_decode(args, list),
        kwargs=_decode(kwargs, dict),
        errors=[entry for entry in _decode(errors, list) or () if isinstance(entry, dict)],
        id=id,
        inserted_at=inserted_at,
        scheduled_at=scheduled_at,
        attempted_at=attempted_at,
        finished_at=finished_at,
        attempted_by=attempted_by,
        root_id=root_id,
        parent_id=parent_id,
        group_id=group_id,
        cancel_requested_at=cancel_requested_at,
        cancel_reason=cancel_reason,
        superseded_by=superseded_by,
        retries=int(retries) if retries and re.fullmatch("[0-9]{1,9}", retries) else 0,
        has_own_limit=bool(has_own_limit),
        fingerprint=fingerprint,
        lane=lane,
        cost=1 if cost is None else cost,
        idempotency_key=idempotency_key,
    )


def _decode(text: str | None, kind: type) -> Any:
    """JSON of one kind; None where it is another, or nothing that Python can hold."""
    try:
        value = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None
