"""Insert one job: settle conflicts of its id, of its unique key and of its idempotency key."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

from ..db.callers.django import tell_of_tasks
from ..db.database import Database
from ..db.rows.jobs import wake_calls
from ..db.rows.receipts import Receipted
from ..db.rows.unique_jobs import Conflict, Guard
from ..job.envelope import rename
from ..job.idempotency import Idempotency, require_same_arguments
from ..job.rows import NO_RUN, NewJob, Run
from ..job.unique import Unique
from ..node.nodes import get_node
from .receipt import Receipt
from .run import current_request


class Insertion(NamedTuple):
    """A job, and who publishes it."""

    job: NewJob
    run: Run = NO_RUN
    #: The key that must be unique, and the rule for a conflict; None for any number.
    guard: Guard | None = None
    rule: Unique | None = None
    #: The call that waits to hear of a conflict.
    receipt: Receipt | None = None
    #: It may be committed before it is on disk.
    is_relaxed: bool = False
    #: Its id was made for it just now, and it may run at once.
    is_fresh: bool = False
    #: The key with which it is published once, and a hash of its arguments.
    idempotency: Idempotency | None = None
    arguments: bytes | None = None

    @property
    def may_be_lost(self) -> bool:
        """True where a crash of the server may take it back: only what is published anew.

        A job that goes back in line was there before, in the name of a run that has ended by now.
        """
        return self.is_relaxed and self.run.holder is None and not self.run.is_holder_only


def insert(database: Database, insertion: Insertion) -> None:
    """Insert a job: committed when this returns, or in the caller's transaction."""
    with nullcontext() if insertion.run.is_own else database.joining():
        if database.is_in_transaction:
            insert_here(database, insertion, None)
            return
        with database.unanswered.sending(insertion.job.task_id) as first:
            if insertion.idempotency is None:
                insert_here(database, insertion, first)
            else:
                _insert_once(database, insertion, first)


def insert_here(database: Database, insertion: Insertion, first: float | None) -> bool:
    """As :func:`insert`, in the transaction that this thread is in, if it is.

    ``first``: when it was sent first, by the monotonic clock, if the answer to that was cut off.
    False where another job stands for it.
    """
    if insertion.idempotency is not None and not take_keys(database, [insertion], first)[0]:
        return False
    return insert_received(database, insertion, first)


def insert_received(database: Database, insertion: Insertion, first: float | None) -> bool:
    """As :func:`insert_here`, where its idempotency key is its own, if it has one."""
    if insertion.guard is not None:
        return _insert_unique(database, insertion, insertion.guard, first)
    _insert(database, insertion, first)
    return True


def _insert(database: Database, insertion: Insertion, first: float | None) -> bool:
    """Insert a job; False if its id waits or runs."""

    def is_inserted() -> bool:
        return database.jobs.insert_job(
            insertion.job,
            insertion.run,
            first,
            may_be_lost=insertion.may_be_lost,
            is_fresh=insertion.is_fresh,
        )

    node = get_node(database)
    ended = node.ledger.writes_ended
    if is_inserted():
        return True
    if database.is_in_transaction:
        return False
    # It may have finished here just now, and its row does not know yet.
    if not node.unwritten and node.ledger.writes_begun == ended:
        return False
    node.write_all()
    return is_inserted()


def _insert_unique(
    database: Database, insertion: Insertion, guard: Guard, first: float | None
) -> bool:
    """Insert a job if it is the only one of its kind; False if it is not."""
    job, rule, receipt = insertion.job, insertion.rule, insertion.receipt
    assert rule is not None
    unique_jobs, lossy = database.unique_jobs, insertion.may_be_lost
    other = unique_jobs.insert_unique_job(job, guard, may_be_lost=lossy)
    while other is not None and other.task_id != job.task_id:
        if _give_way(database, insertion, guard, other, rule.replaced(other.state)):
            return False
        other = unique_jobs.insert_unique_job(job, guard, may_be_lost=lossy)
    if other is None:
        if receipt is not None:
            receipt.withdraw()
        return True
    if _insert(database, insertion, first or other.first):
        unique_jobs.take_key(job.task_id, guard)
    # A conflict is this job's own row, of a transaction of which the answer was lost.
    return receipt is None or receipt.conflict is None


def _give_way(
    database: Database, insertion: Insertion, guard: Guard, other: Conflict, replaced: Sequence[str]
) -> bool:
    """Another job of this kind is there: it takes over what it must, and this one is not inserted.

    False if it should have taken over something, and waits no more.
    """
    job, receipt = insertion.job, insertion.receipt
    if replaced:
        assert insertion.rule is not None
        is_replaced = database.unique_jobs.replace_job(
            job._replace(
                task_id=other.task_id, message=rename(job.message, job.task_id, other.task_id)
            ),
            guard,
            replaced,
            insertion.rule.latest,
        )
        if not is_replaced:
            return False
    if receipt is None or receipt.report_conflict(other.task_id):
        database.unique_jobs.insert_duplicate(job, other.task_id, guard.key)
    if insertion.idempotency is not None:
        database.receipts.redirect_receipt(job.task, insertion.idempotency.key, other.task_id)
    return True


def _insert_once(database: Database, insertion: Insertion, first: float | None) -> None:
    """Insert a job and the receipt of its idempotency key in one transaction."""
    begun: list[float] = []

    def commit() -> None:
        since = first or (begun[0] if begun else None)
        begun.append(time.monotonic())
        with database.transaction():
            if insertion.may_be_lost:
                database.jobs.relax_commit()
            insert_here(database, insertion, since)
        database.run(*wake_calls(database, insertion.job))

    if get_node(database).unwritten:
        # A job that is published again may have finished here just now.
        get_node(database).flush()
    database.retrying(commit)


def take_keys(
    database: Database, insertions: Sequence[Insertion], first: float | None
) -> tuple[list[Insertion], int]:
    """Those that must be inserted, in their order; and how many were, by a try that got no answer.

    The others are told of the job that was published with their idempotency key before, or stands
    before them here. Raises IdempotencyMismatch for other arguments than that one's.
    """
    foremost: dict[tuple[str, str], Insertion] = {}
    for each in insertions:
        if each.idempotency is not None:
            foremost.setdefault((each.job.task, each.idempotency.key), each)
    if not foremost:
        return list(insertions), 0
    found = database.receipts.keep_receipts(
        {
            name: Receipted(each.job.task_id, each.arguments, each.idempotency.seconds)
            for name, each in foremost.items()
            if each.idempotency is not None
        }
    )
    taken, there = [], 0
    for each in insertions:
        if each.idempotency is None:
            taken.append(each)
            continue
        name = each.job.task, each.idempotency.key
        is_foremost = foremost[name] is each
        if is_foremost and found[name].is_new:
            if each.receipt is not None:
                each.receipt.withdraw()
            taken.append(each)
        elif is_foremost and first is not None and found[name].task_id == each.job.task_id:
            there += 1
        else:
            _stand_back(database, each, found[name])
    return taken, there


def _stand_back(database: Database, insertion: Insertion, other: Receipted) -> None:
    """Another job has its idempotency key: it is not inserted."""
    job, receipt = insertion.job, insertion.receipt
    key = insertion.idempotency.key if insertion.idempotency else ""
    require_same_arguments(job.task, key, other.task_id, other.arguments, insertion.arguments)
    is_promised = receipt is None or receipt.report_conflict(other.task_id)
    if is_promised and other.task_id != job.task_id:
        database.unique_jobs.insert_duplicate(job, other.task_id, None)


def _is_in_task() -> bool:
    """True if a worker runs a task in this thread, whose own code may be over."""
    request = current_request()
    return bool(request) and not (request.called_directly or request.is_eager)


tell_of_tasks(_is_in_task)
