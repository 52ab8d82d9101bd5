"""Collect what is published in a block, and write it in as few statements as can be.

with bulk():
    for user in users:
        welcome.delay(user.id)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from uuid import uuid4

from kombu.utils.functional import retry_over_time

from .db import notify
from .db.database import CONNECTION_ERRORS, Database, Places
from .errors import InvalidOption, MessageRefused
from .job import NewJob
from .putting import Insertion, put_here
from .scopes import Scoped

#: How many are collected before they are written on the way, unless the block says otherwise.
SIZE = 1000
#: And how many bytes their bodies may have together.
MAX_BYTES = 16 * 1024 * 1024
#: How a flush is tried again over a lost connection: as Celery's task_publish_retry_policy has it.
RETRY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}

#: A job, or something else that is to be done between two of them.
Step = Insertion | Callable[[], None]


class Batch:
    """What was published and is not written yet. Thread-safe."""

    def __init__(self, size: int = SIZE, *, is_promised: bool = True) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidOption(f"size must be a whole number from 1, not {size!r}")
        #: How many jobs one flush writes at most.
        self.size = size
        #: Whoever publishes has the ids, and may look for them.
        self.is_promised = is_promised
        #: How many jobs were written so far.
        self.written = 0
        self._places = Places()
        self._steps: list[tuple[Database, Step]] = []
        self._bytes = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """How many wait to be written."""
        return len(self._steps)

    def takes(self, database: Database) -> bool:
        """False where it is published into another transaction, or savepoint, than this began in.

        What is published there must not outlive it.
        """
        return self._places.of(database) == database.find_place()

    def add(self, database: Database, step: Step) -> None:
        """Collect one more; writes what was collected once that is enough."""
        with self._lock:
            self._steps.append((database, step))
            if isinstance(step, Insertion):
                self._bytes += len(step.job.body)
            if len(self._steps) >= self.size or self._bytes >= MAX_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what was collected: all of it or, where that raises, nothing.

        Raises MessageRefused, with its name, for a job that cannot be stored.
        """
        with self._lock:
            steps = self._take()
            for database, group in groupby(steps, key=lambda step: step[0]):
                of_database = [step for _, step in group]
                write_steps(database, of_database)
                self.written += sum(isinstance(step, Insertion) for step in of_database)

    def discard(self) -> None:
        """Forget what was collected."""
        with self._lock:
            self._take()

    def is_part_of(self, outer: Batch) -> bool:
        """True where what this collects is to be written with what ``outer`` does."""
        return self._places == outer._places

    def extend(self, other: Batch) -> None:
        """Take over what another has collected."""
        for database, step in other._take():
            self.add(database, step)

    def _take(self) -> list[tuple[Database, Step]]:
        steps, self._steps, self._bytes = self._steps, [], 0
        return steps


def write_steps(database: Database, steps: Sequence[Step]) -> None:
    """Do all of these in one transaction, the caller's or one of our own, in their order."""
    with database.joining():
        if database.is_in_transaction:
            _wake(database, _write(database, steps, None))
            return
    sent: list[float] = []

    def write() -> None:
        first = sent[0] if sent else None
        sent.append(time.monotonic())
        with database.transaction():
            jobs = _write(database, steps, first)
        _wake(database, jobs)

    retry_over_time(write, CONNECTION_ERRORS, **RETRY)


def _write(database: Database, steps: Sequence[Step], first: float | None) -> list[NewJob]:
    """Do these in the transaction that this thread is in; the jobs of which nobody was told."""
    told_not: list[NewJob] = []
    insertions: list[Insertion] = []

    def insert() -> None:
        if insertions:
            told_not.extend(_insert(database, insertions, first))
            insertions.clear()

    for step in steps:
        if isinstance(step, Insertion):
            insertions.append(step)
        else:
            insert()
            step()
    insert()
    return told_not


def _insert(
    database: Database, insertions: Sequence[Insertion], first: float | None
) -> list[NewJob]:
    """Put these in line in one statement; one by one where something stands in the way."""
    jobs = [insertion.job for insertion in insertions]
    keys = [insertion.guard and insertion.guard.key for insertion in insertions]
    try:
        put = database.jobs.insert_jobs(jobs, keys)
        for insertion in insertions:
            if insertion.job.task_id not in put:
                put_here(database, insertion, first)
    except CONNECTION_ERRORS:
        raise
    except Exception as error:
        raise _name_offender(database, insertions, error) from error
    return [job for job in jobs if job.task_id in put]


def _wake(database: Database, jobs: Iterable[NewJob]) -> None:
    """Tell who waits for these, once for each queue."""
    kinds = {(notify.JOB, job.queue) for job in jobs}
    if any(job.eta is not None for job in jobs):
        kinds.add((notify.DUE, ""))
    if kinds:
        database.run(*([database.wake(*kind)] for kind in sorted(kinds)))


def _name_offender(
    database: Database, insertions: Sequence[Insertion], error: Exception
) -> Exception:
    """The error, with the job that it is about.

    Tried one by one under ids of their own, over another connection, in a transaction that is
    taken back: the one that they were to be part of may be the caller's.
    """
    for number, insertion in enumerate(insertions, 1):
        job = insertion.job._replace(task_id=str(uuid4()))
        try:
            with suppress(_TakenBack), database.apart():
                database.jobs.insert_job(job)
                raise _TakenBack
        except CONNECTION_ERRORS:
            return error
        except Exception as own:
            return MessageRefused(
                f"task {insertion.job.task}[{insertion.job.task_id}], number {number} of "
                f"{len(insertions)} that were to be written together, cannot be stored: {own}"
            )
    return error


class _TakenBack(Exception):
    """Ends a transaction that was only to see whether something can be stored."""


#: What collects here.
batches: Scoped[Batch] = Scoped("pgjobs_bulk")


def find_batch(database: Database) -> Batch | None:
    """The batch that collects what is published here; None where it is written at once."""
    scope = batches.find()
    return scope.value if scope is not None and scope.value.takes(database) else None


def take_part(database: Database, act: Callable[[], None]) -> None:
    """Do what belongs to the publishing of jobs where these are put, and in their order."""

    def act_there() -> None:
        with database.joining():
            act()

    batch = find_batch(database)
    if batch is None:
        act_there()
    else:
        batch.add(database, act_there)


class bulk:  # noqa: N801
    """Collect every task that is published in the block, and write them in multi-row statements.

        with bulk():
            for user in users:
                welcome.delay(user.id)

    Their order is kept, and their ids are known at once. They are there when the block ends: all of
    them or, where it raises, none but those written before, for a block of more than ``size`` jobs,
    or 16 MiB of arguments, is written on the way. Inside of :func:`using` they are part of the
    caller's transaction. ``as`` gives the :class:`Batch`, whose ``flush()`` writes at once.

    Also as ``async with``, where what is collected is written without blocking the event loop.
    """

    def __init__(self, size: int = SIZE) -> None:
        self._batch = Batch(size)

    def __enter__(self) -> Batch:
        self._scope = batches.enter(self._batch)
        return self._batch

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        batches.leave(self._scope)
        if kind is not None:
            self._batch.discard()
            return
        outer = batches.find()
        if outer is not None and self._batch.is_part_of(outer.value):
            outer.value.extend(self._batch)
        else:
            self._batch.flush()
