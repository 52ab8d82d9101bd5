"""Write what a batch has collected: many jobs in one statement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from celery import current_app
from kombu.utils.functional import retry_over_time

from ..db import notify
from ..db.database import CONNECTION_ERRORS, REFUSALS, Database
from ..errors import MessageRefused, PgJobsError
from ..job.rows import NewJob
from ..node.nodes import get_node
from .admission import admit
from .insertion import Insertion, insert_received, take_keys

#: A job, or a call that must be made between two of them.
Step = Insertion | Callable[[], None]


class Flush:
    """The steps of one flush, which may have to be tried again."""

    def __init__(self, database: Database, steps: Sequence[Step]) -> None:
        self._database = database
        self.steps = steps
        #: When they were sent first, by the monotonic clock, if the answer to that was cut off.
        self._first: float | None = None
        self._sent: float | None = None

    def write(self) -> int:
        """Do all of them in one transaction, the caller's or one of our own, in their order.

        Returns how many jobs are there by now, those that others stand for not counted. Tried again
        over a lost connection, as Celery's ``task_publish_retry_policy`` has it. Raises QueueFull
        where a queue has no room for its part of them.
        """
        admit(self._database, [step for step in self.steps if isinstance(step, Insertion)])
        try:
            with self._database.joining():
                if self._database.is_in_transaction:
                    count = self._write()
                    self._wake()
                    return count
            return int(retry_over_time(self._commit, CONNECTION_ERRORS, **_retry_policy()))
        except _Refused as refused:
            # Here, where the transaction is over, and its connection free for another.
            raise self._name_offender(refused.insertions, refused.error) from refused.error

    def _commit(self) -> int:
        node = get_node(self._database)
        if node.unwritten:
            # A job that is published again may have finished here just now.
            node.flush()
        self._first, self._sent = self._sent, self._sent or time.monotonic()
        with self._database.transaction():
            if all(isinstance(step, Insertion) and step.may_be_lost for step in self.steps):
                self._database.jobs.relax_commit()
            count = self._write()
        self._wake()
        return count

    def _write(self) -> int:
        """Do them in the transaction that this thread is in."""
        count = 0
        insertions: list[Insertion] = []
        for step in self.steps:
            if isinstance(step, Insertion):
                insertions.append(step)
            else:
                count += self._insert(insertions)
                insertions = []
                step()
        return count + self._insert(insertions)

    def _insert(self, insertions: Sequence[Insertion]) -> int:
        """Put these in line in one statement; one by one where something stands in the way."""
        if not insertions:
            return 0
        there = 0
        try:
            if any(each.idempotency for each in insertions):
                insertions, there = take_keys(self._database, insertions, self._first)
                if not insertions:
                    return there
            keys = [each.guard.key if each.guard else None for each in insertions]
            left = self._database.jobs.insert_jobs([each.job for each in insertions], keys)
            for number, insertion in enumerate(insertions):
                if insertion.receipt is not None and number not in left:
                    insertion.receipt.withdraw()
            # By key, as the statement does it: so do others that put the same ones.
            order = sorted(left, key=lambda number: (keys[number] or b"", number))
            return (
                there
                + len(insertions)
                - sum(
                    not self._insert_in_place(insertions[number], left[number]) for number in order
                )
            )
        except (*CONNECTION_ERRORS, PgJobsError):
            raise
        except Exception as error:
            raise _Refused(insertions, error) from error

    def _insert_in_place(self, insertion: Insertion, seq: int) -> bool:
        insertion = insertion._replace(job=insertion.job._replace(seq=seq))
        return insert_received(self._database, insertion, self._first)

    def _wake(self) -> None:
        """Tell who waits for these, once for each queue."""
        jobs = [step.job for step in self.steps if isinstance(step, Insertion)]
        queues = Counter(job.queue for job in jobs)
        wakes = [[self._database.wake_for_jobs(*each)] for each in sorted(queues.items())]
        if any(job.eta is not None for job in jobs):
            wakes.append([self._database.wake(notify.DUE)])
        if not wakes:
            return
        if self._database.is_in_transaction:
            self._database.run(*wakes)
            return
        # They are committed, and must not be put once more for a wake-up.
        with suppress(*CONNECTION_ERRORS):
            self._database.run(*wakes)

    def _name_offender(self, insertions: Sequence[Insertion], error: Exception) -> Exception:
        """The error, with the job that it is about."""
        if self._database.is_in_transaction:
            return error  # in one of our own, where nothing can be tried any more
        jobs = [insertion.job for insertion in insertions]
        try:
            if not self._refuses(jobs):
                return error
            low, high = 0, len(jobs)
            while high - low > 1:
                middle = (low + high) // 2
                if self._refuses(jobs[low:middle]):
                    high = middle
                else:
                    low = middle
            own = self._refuses(jobs[low:high]) or error
        except (*CONNECTION_ERRORS, PgJobsError):
            return error
        job = jobs[low]
        return MessageRefused(
            f"task {job.task}[{job.task_id}], number {low + 1} of {len(jobs)} that were to be "
            f"written together, cannot be stored: {own}"
        )

    def _refuses(self, jobs: Sequence[NewJob]) -> Exception | None:
        """Why one of these cannot be stored; None if all can.

        Tried under ids of their own, over another connection, in a transaction that is taken back:
        their own may be the caller's.
        """
        renamed = [job._replace(task_id=str(uuid4())) for job in jobs]
        try:
            with suppress(_TakenBack), self._database.apart():
                self._database.jobs.insert_jobs(renamed, [None] * len(jobs))
                raise _TakenBack
        except (*REFUSALS, UnicodeError) as error:
            return error
        return None


class _Refused(Exception):
    """The server does not take one of these."""

    def __init__(self, insertions: Sequence[Insertion], error: Exception) -> None:
        super().__init__(error)
        self.insertions = insertions
        self.error = error


class _TakenBack(Exception):
    """Ends a transaction that was only to see whether something can be stored."""


def _retry_policy() -> dict[str, Any]:
    conf = current_app.conf
    if not conf.task_publish_retry:
        return {"max_retries": 0}
    policy = {"interval_start": 0, "interval_step": 0.2, "interval_max": 1, "max_retries": 3}
    given = conf.task_publish_retry_policy or {}
    return {name: given.get(name, value) for name, value in policy.items()}
