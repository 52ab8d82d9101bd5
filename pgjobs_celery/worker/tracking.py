"""The part of a request that knows its job: whether the pool has it, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject

from ..broker.message import Message
from ..job.decide import End, EndedRun, decide
from ..job.exceptions import Postponed
from ..job.outcome import Outcome
from ..job.states import State
from ..signals import is_end_heard

if TYPE_CHECKING:
    # A mixin: Celery's class stands behind it in each task's request.
    from celery.worker.request import Request as Base

    from ..job.rows import Claim
else:
    Base = object


class TrackedRequest(Base):
    """Mixin for ``Task.Request``: the request of a task whose message may be a job."""

    _message: Any
    _request_dict: dict[str, Any]
    task: Any
    #: The job went back in line.
    is_put_back = False
    #: Its process has stored how it failed, and was lost.
    _is_stored = False
    #: It is being handed to the pool.
    _is_being_sent = False

    def _track(self) -> None:
        """The pool has it: from here on the request reports what becomes of the job."""
        claim = claim_of(self._message)
        if claim is not None and not self._message.is_tracked:
            self._message.track()
            self._message.channel.node.holdings.hand_to_pool(claim.id)

    def _decide(self, claim: Claim, end: End, error: Any = None, **known: Any) -> Outcome | None:
        """The outcome of the job, of which this is known; not written yet."""
        task = self.task
        run = EndedRun(
            claim,
            end,
            error,
            acks_late=task.acks_late,
            acks_on_timeout=acks_on_timeout(task),
            task_id=self.id,
            job=(task.name, self.id) if is_end_heard() else None,
            **known,
        )
        return decide(run)

    def _settle(self, outcome: Outcome | None) -> None:
        """Have ``outcome`` written, if it is the first that the job gets; None: its row has it.

        Written unless the row knows better: the task's own process wrote it, or another worker has
        the job by now.
        """
        message = self._message
        if message.settle(outcome):
            if outcome is not None and outcome.state is State.AVAILABLE:
                self.is_put_back = True
            # Another thread than the loop's may be here, and another job has room.
            message.channel.transport.wake()

    @property
    def is_settled(self) -> bool:
        """True once the outcome of the job is known."""
        return bool(self._message.is_settled)

    @property
    def stores_failure(self) -> bool:
        """False where the task's result is ignored, and its failures are as well."""
        return bool(self.store_errors or self._is_chord_part)

    def _stores_failure_of(self, error: BaseException) -> bool:
        """The same for one failure."""
        if isinstance(error, (Reject, Postponed)) and self._ignore_result:
            # Celery 5.5 stores what it ends itself although the caller ignores the result. It
            # ends neither a rejected task nor an attempt that is retried here.
            return bool(self.task.store_errors_even_if_ignored or self._is_chord_part)
        return self.stores_failure

    @property
    def store_errors(self) -> bool:
        """Whether Celery must store that the task has failed."""
        return not self._is_stored and bool(super().store_errors)

    @property
    def _is_chord_part(self) -> bool:
        # The group first: to build the context costs 25 µs.
        return bool(self._request_dict.get("group") and self._context.chord)

    def _result_is_in_the_row(self) -> bool:
        """True where the process that ran the task has finished the row with its result."""
        # Of a task in a chord's header the result is stored although it ignores it.
        if self._ignore_result and not self._is_chord_part:
            return False
        database = getattr(self.task.backend, "database", None)
        if database is None or database.key != self._message.channel.database.key:
            return False
        # Celery may have skipped the run as one that succeeded before, and stored nothing.
        return not (
            self._message.delivery_info["redelivered"]
            and self.task.app.conf.worker_deduplicate_successful_tasks
        )

    @property
    def may_run_later(self) -> bool:
        """True if other code than the pool has it, and may run it on another connection."""
        return False

    def take_back(self) -> bool:
        """Keep the task from beginning in a process of the pool; False if one was sent it."""
        pool = self._message.channel.node.pool
        result = self._apply_result and self._apply_result()
        if result:
            return pool is None or bool(pool.take_back(self, result))
        # A signal handler may have interrupted what hands it to the pool.
        return not (self._is_being_sent and self._has_processes())

    def _is_in_pool(self) -> bool:
        """True if the task runs, or a process will run it that cannot be told not to."""
        if self.time_start:
            return True
        return bool(self._apply_result) and self._has_processes()

    def _has_processes(self) -> bool:
        pool = self._message.channel.node.pool
        return bool(pool and pool.has_processes)

    def _begins_late(self) -> bool:
        """True where a task of this process may wait in the pool, and its number is not ours."""
        pool = self._message.channel.node.pool
        return bool(pool and pool.begins_late)

    def _is_pool_ending(self) -> bool:
        if claim_of(self._message) is None:
            return False
        pool = self._message.channel.node.pool
        return bool(pool and pool.is_ending)


def claim_of(message: Any) -> Claim | None:
    """The job behind a message; None for another broker's, or one that is not a job."""
    return message.claim if isinstance(message, Message) else None


def acks_on_timeout(task: Any) -> bool:
    """Whether a message that is acknowledged late is so even when its time limit is over."""
    # Celery 5.5 and 5.6 have one setting for failures and time limits.
    return bool(getattr(task, "acks_on_timeout", task.acks_on_failure_or_timeout))
