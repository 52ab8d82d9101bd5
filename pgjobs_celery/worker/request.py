"""The request of a task in a worker's main process, which reports its outcome to the row.

``Task.Request`` is Celery's extension point. Celery derives one more class from it for each task,
and overrides ``on_success`` there; ``__init_subclass__`` puts itself in front of that.

Acknowledging is not the outcome: Celery acknowledges most tasks when they begin. The outcome of the
job is decided here, from what Celery calls when a task ends, and written in batches.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Any
from weakref import ref

from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.exceptions import Ignore, Reject, Retry, TaskRevokedError
from celery.platforms import signals
from celery.signals import task_revoked
from celery.states import FAILURE, SUCCESS
from celery.worker.state import revoked, task_ready

from ..job.exceptions import REPLACED, CancelledByTask, Postponed
from ..job.outcome import (
    FinishedJob,
    Outcome,
    cancelled,
    completed,
    cut_short,
    discarded,
    error_entry,
    error_from,
    released,
    replaced,
    requeued,
    retried,
    snoozed,
)
from ..job.states import State
from ..printable import guarded
from ..results.handover import Summary, TracingPool
from ..signals import is_end_heard, job_claimed
from ..tasks.task import PgTask
from .guard import is_connection_lost, set_aside
from .headers import check_headers
from .losses import LostAttempts, claim_of, exception_of, is_killed, raised
from .pool import withdraw

if TYPE_CHECKING:
    from ..job.rows import Cancellation, Claim

logger = guarded(logging.getLogger(__name__))

#: The pool's errors for a task whose process has ended.
ENDED = (Terminated, WorkerLostError, SystemExit, KeyboardInterrupt)
#: Ends of an attempt that its process leaves to be written here.
LEFT_TO_US = (Postponed, CancelledByTask)


class JobRequest(LostAttempts):
    """Mixin for ``Task.Request``: the request of a task whose message may be a job."""

    _message: Any
    _request_dict: dict[str, Any]
    task: Any
    #: Why the task failed, while Celery decides what follows from it.
    _failure: Any = None
    #: A cancellation that was asked for.
    _cancellation: Cancellation | None = None
    #: It went back in line.
    is_put_back = False
    #: By which signals the task was told to end.
    _signals: frozenset[int] = frozenset()

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        claim = claim_of(message)
        if claim is not None:
            check_headers(message.headers)
        super().__init__(message, *args, **kwargs)
        if claim is not None:
            message.request = ref(self)
            if message.eta is not None:
                self._request_dict["eta"] = message.eta
            if self.group and (note_group := message.channel.node.note_group) is not None:
                note_group(self.group)
            job_claimed.send(
                sender=self.task.name,
                task_id=self.id,
                queue=claim.queue,
                attempt=claim.attempt,
                max_attempts=claim.max_attempts,
            )
            if isinstance(self.task, PgTask):
                # Its attempts are counted in the row: one that was lost with its worker as well.
                self._request_dict["retries"] = claim.attempt - 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        specialised = cls.__dict__.get("on_success")
        if specialised is not None:

            def on_success(self: JobRequest, failed__retval__runtime: Any, **kwargs: Any) -> Any:
                self._track()
                if isinstance(failed__retval__runtime, ExceptionInfo):
                    # A thread, and the solo pool, say so of a task that has left its process
                    # (sys.exit): Celery fails of it, and the job would never be heard of again.
                    return self.on_failure(failed__retval__runtime)
                if failed__retval__runtime[0] is False:
                    # Celery's word for a greenlet that was killed; what has run says 0, or 1.
                    return self.on_failure(raised(Terminated(signals.signum("TERM"))))
                if failed__retval__runtime[0]:
                    return specialised(self, failed__retval__runtime, **kwargs)
                try:
                    try:
                        return specialised(self, failed__retval__runtime, **kwargs)
                    finally:
                        self._succeeded(failed__retval__runtime[1])
                except Exception as error:
                    self._make_room(error)
                    raise

            cls.on_success = on_success  # type: ignore[method-assign]
            # Celery's own is as good as the specialised one, and takes the pool from us.
            cls.execute_using_pool = JobRequest.execute_using_pool  # type: ignore[method-assign]

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        """The task returned, or (Celery calls this for both) failed."""
        self._track()
        if failed__retval__runtime[0]:
            return super().on_success(failed__retval__runtime, **kwargs)
        try:
            try:
                return super().on_success(failed__retval__runtime, **kwargs)
            finally:
                self._succeeded(failed__retval__runtime[1])
        except Exception as error:
            self._make_room(error)
            raise

    def maybe_expire(self) -> bool:
        """True, and the task revoked, if it is too late to run it: by the database's clock."""
        expires_at = getattr(self._message, "expires_at", None)
        if expires_at is None:
            return bool(super().maybe_expire())
        if time.monotonic() <= expires_at:
            return False
        revoked.add(self.id)
        return True

    def _track(self) -> None:
        """From here on it is the request that says what becomes of the job."""
        claim = claim_of(self._message)
        if claim is not None and not self._message.is_tracked:
            self._message.track()
            self._message.channel.node.holdings.hand_to_pool(claim.id)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, as a strategy may; the row has what is stored of it."""
        self._track()
        returned = super().execute(*args, **kwargs)
        claim = claim_of(self._message)
        if claim is not None:
            self._settle(completed(claim)._replace(is_sole=False))
        return returned

    def execute_using_pool(self, pool: Any, **kwargs: Any) -> Any:
        """Send the task to the pool."""
        if self._is_pool_ending():
            # By which Celery gives its place in the pool back; the job goes back in line.
            raise TaskRevokedError(self.id)
        self._track()
        try:
            return super().execute_using_pool(TracingPool(pool), **kwargs)
        except TaskRevokedError:
            raise
        except Exception as error:
            if claim_of(self._message) is None or is_connection_lost(error):
                raise
            # It cannot be sent: its headers are too deep for a pickle, say. Or it ran here (solo).
            withdraw(pool, self.id)
            task_ready(self)
            if not isinstance(error, NotOurs):
                set_aside(self._message, error)
            # By which Celery gives its place in the pool back.
            raise TaskRevokedError(self.id) from error

    def on_accepted(self, pid: int, time_accepted: float) -> Any:
        """The task begins."""
        self._track()
        message = self._message
        if claim_of(message) is not None:
            if pid == os.getpid() and (self.revoked() or self._is_fenced() or not message.begin()):
                # It waited in the pool of this process, and is not ours, or not to run, any more.
                if self._has_processes():
                    return None  # its child died before it began, and billiard hears of no error
                raise NotOurs(f"job {message.claim.id} was put back or revoked before it began")
            message.is_started = True
        try:
            return super().on_accepted(pid, time_accepted)
        except NotImplementedError:
            return None  # it should be terminated, which this pool cannot: it is told, if it asks
        except Exception as error:
            if claim_of(message) is not None and not self._has_processes():
                # In a thread that ends it before it has begun.
                task_ready(self)
                set_aside(message, error)
            raise

    def end_job(self, pool: Any, cancellation: Cancellation) -> None:
        """Cancel the job: it must not begin; one that runs may be terminated."""
        before, self._cancellation = self._cancellation, cancellation
        if not self._is_in_pool():
            self.revoked()
            return
        if cancellation.signal is None or (before and before.signal == cancellation.signal):
            return
        if not _is_signal(cancellation.signal):
            logger.warning(
                "task %s[%s] cannot be terminated: %r is not a signal here; it is told, if it asks",
                self.task.name, cancellation.task_id, cancellation.signal,
            )  # fmt: skip
            return
        try:
            self.terminate(pool, cancellation.signal)
        except NotImplementedError:
            logger.warning(
                "task %s[%s] cannot be terminated in this pool: it is told, if it asks",
                self.task.name, cancellation.task_id,
            )  # fmt: skip

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the task. Its row says so and workers are told: it is done once for each signal."""
        number = signals.signum(signal or "TERM")
        if claim_of(self._message) is not None:
            if number in self._signals:
                return
            self._signals = self._signals | {number}
        super().terminate(pool, signal)

    def revoked(self) -> bool:
        """True, and the job cancelled, if it must not begin any more."""
        if self._cancellation is None or self._already_revoked:
            if claim_of(self._message) is not None:
                # Workers remember revoked and expired tasks from before this claim: the row was
                # revoked then, and has been put back in line since.
                revoked.discard(self.id)
            return bool(super().revoked())
        self._announce_revoked(self._cancellation.reason, False, None, False)
        return True

    def _is_fenced(self) -> bool:
        """True, and the job let go of, when others may be about to take it."""
        message = self._message
        node = message.channel.node
        if not node.is_fenced:
            return False
        if message.give_back():
            node.settle(released(message.claim))
        return True

    def _is_in_pool(self) -> bool:
        """True if the task runs, or a process will run it that cannot be told not to."""
        if self.time_start:
            return True
        return bool(self._apply_result) and self._has_processes()

    def _has_processes(self) -> bool:
        pool = self._message.channel.node.pool
        return bool(pool and pool.has_processes)

    def _is_pool_ending(self) -> bool:
        if claim_of(self._message) is None:
            return False
        pool = self._message.channel.node.pool
        return bool(pool and pool.is_ending)

    def was_sent(self) -> bool:
        """True once the task is on its way to a process of the pool, which will run it."""
        pool = self._message.channel.node.pool
        sent = self._apply_result and self._apply_result()
        return bool(sent and pool and pool.has_sent(sent))

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """The task failed, was rejected, ignored, retried or killed."""
        self._track()
        error = exception_of(exc_info)
        stored = self._find_stored() if is_killed(error) else {}
        if stored.get("status") == SUCCESS:
            # Its process was lost after that, in a hook or in a signal's receiver.
            return self.on_success((0, "", None))
        if stored.get("status") == FAILURE and isinstance(stored["result"], Exception):
            # It was lost before its errbacks were called, perhaps.
            self._is_stored = True
            exc_info = raised(stored["result"])
        elif postponed := self._postpone(error):
            exc_info = self._announce_retry(postponed)
        self._failure = exc_info
        if kwargs.get("return_ok") and not getattr(exc_info, "is_known", True):
            kwargs["return_ok"] = False  # its process could not report it: it is reported here
        try:
            try:
                answer = super().on_failure(exc_info, *args, **kwargs)
                self._is_told = not self.is_put_back
                return answer
            finally:
                claim = claim_of(self._message)
                if claim is not None:
                    self._settle_failure(claim, exc_info)
        except BaseException as beyond:
            self._make_room(beyond)
            raise

    def _settle_failure(self, claim: Claim, exc_info: Any) -> None:
        error = exception_of(exc_info)
        self._settle(
            self._decide_failure(claim, exc_info),
            is_lost=isinstance(error, LEFT_TO_US) or getattr(exc_info, "is_lost", False),
        )
        if isinstance(error, CancelledByTask):
            self._announce_cancelled_by_task()
        if self._is_chord_part:
            self._message.channel.node.expect_chord()

    def _make_room(self, error: BaseException) -> None:
        """Celery's own ending of the task has raised ``error``: let go of the message for it.

        The outcome of the job is settled by now.
        """
        if claim_of(self._message) is not None:
            if not self._has_processes():
                # billiard logs it of a child's task; of a thread nothing would.
                logger.error(
                    "the end of task %s[%s] raised %r", self.task.name,
                    self.id, error, exc_info=error,
                )  # fmt: skip
            self._message.channel.basic_reject(self._message.delivery_tag)

    def _announce_cancelled_by_task(self) -> None:
        """Tell monitors what Celery says of a revoked task."""
        revoked = {"terminated": False, "signum": None, "expired": False}
        self.send_event("task-revoked", **revoked)
        task_revoked.send(sender=self.task, request=self._context, **revoked)

    def reject(self, requeue: bool = False) -> Any:
        """Celery refuses the message: the channel hears of it later, from the event loop."""
        claim = claim_of(self._message)
        if claim is not None and requeue and not self.acknowledged:
            error = self._failure and exception_of(self._failure)
            entry = error_from(error) if error and not isinstance(error, Reject) else None
            self._settle(requeued(claim, entry))
        return super().reject(requeue=requeue)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """A time limit was exceeded; the hard one has killed the task."""
        self._track()
        claim = claim_of(self._message)
        if claim is None or soft:
            return super().on_timeout(soft, timeout)
        if self._postpone(TimeLimitExceeded(timeout)):
            # on_failure is told the same, and that is where the next attempt is decided.
            logger.error(
                "hard time limit (%ss) exceeded for %s[%s]",
                timeout, self.task.name, self.id,
            )  # fmt: skip
            return None
        entry = error_entry("TimeLimitExceeded", f"the hard time limit ({timeout} s) was exceeded")
        if self.task.acks_late and not self.task.acks_on_timeout:
            # Celery stores a failure and then requeues. The row would be finished by the first.
            self._settle(requeued(claim, entry))
            self._message.channel.node.flush()
        try:
            try:
                self._drop_errbacks_if_told()
                return super().on_timeout(soft, timeout)
            finally:
                self._settle(self._discarded(claim, entry))
        except Exception as error:
            self._make_room(error)
            raise

    def _announce_revoked(
        self, reason: str, terminated: bool, signum: str | None, expired: bool
    ) -> None:
        """Revoked or expired before it began, or terminated: Celery calls all of it REVOKED."""
        self._track()
        if self._cancellation is not None:
            reason = self._cancellation.reason
        if self._already_revoked:
            return  # a killed greenlet says it, and then who has killed it
        try:
            super()._announce_revoked(reason, terminated, signum, expired)
        finally:
            claim = claim_of(self._message)
            if claim is not None:
                self._settle(cancelled(claim, reason))

    def cancel(self, *args: Any, **kwargs: Any) -> None:
        """End the task, for its worker must leave at once."""
        if self.time_start:
            # Before Celery sets it: a greenlet says at once that it was killed.
            self._already_cancelled = True
        # Threads, and the solo pool, cannot do it, and say so to whom the signal has interrupted:
        # in the solo pool the task itself, which would fail of it.
        with contextlib.suppress(NotImplementedError):
            super().cancel(*args, **kwargs)

    def _announce_cancelled(self, **kwargs: Any) -> None:
        """Ended by a cold shutdown, or (where that is asked for) because the connection was lost.

        Celery says RETRY of it at once. But it may have ended meanwhile, unheard: what comes of it
        is what the pool says of it when its processes have gone.
        """
        claim = claim_of(self._message)
        if claim is None:
            super()._announce_cancelled(**kwargs)
            return
        # In a signal handler, where the interrupted code may hold any lock: nothing is written.
        task_ready(self)
        self.send_event("task-cancelled")
        self._already_cancelled = True
        self._message.channel.node.pool.cancel(self)

    @property
    def may_run_later(self) -> bool:
        """True if other code than the pool has it, and may run it on another connection."""
        return False

    @property
    def is_settled(self) -> bool:
        """True once the outcome of the job is known."""
        return bool(self._message.is_settled)

    def settle_cancelled(self) -> None:
        """The pool has ended without a report of this task."""
        claim = claim_of(self._message)
        if claim is not None:
            self._settle(cut_short(claim, acks_late=self.task.acks_late))

    def _succeeded(self, returned: Any) -> None:
        claim = claim_of(self._message)
        if claim is None:
            return
        if isinstance(returned, Summary):
            self._settle(
                completed(claim, returned.result),
                is_lost=returned.result is None,
            )
        elif self._result_is_in_the_row():
            self._message.is_settled = True
            node = self._message.channel.node
            node.done(claim.id, claim.attempt)
            # In a pool of threads it is not the loop that hears of it: there is room for another.
            self._message.channel.transport.wake()
            if is_end_heard():
                name, id = self.task.name, self.id
                node.announce([FinishedJob(name, id, claim.attempt, State.COMPLETED, None)])
        else:
            self._settle(completed(claim))

    def _decide_failure(self, claim: Claim, exc_info: Any) -> Outcome:
        error = exception_of(exc_info)
        if self._already_revoked:
            return Outcome(claim.id, claim.attempt, State.CANCELLED)
        if self._already_cancelled and isinstance(error, ENDED):
            return cut_short(claim, acks_late=self.task.acks_late)
        if isinstance(error, Postponed):
            if error.error is None:
                return snoozed(claim, error.delay)
            was_lost = is_killed(error.exc)
            return retried(claim, error.delay, error.error, was_lost=was_lost)
        if isinstance(error, CancelledByTask):
            return cancelled(claim, error.reason)
        if isinstance(error, Ignore) and str(error) == REPLACED:
            return replaced(claim)
        if isinstance(error, (Ignore, Retry)):
            # A retry has put its row back in line already, and this changes nothing.
            return completed(claim)._replace(is_sole=isinstance(error, Ignore))
        return self._discarded(claim, error_from(error, exc_info.traceback))

    def _discarded(self, claim: Claim, entry: str) -> Outcome:
        return discarded(claim, entry)._replace(is_stored=self.stores_failure)

    @property
    def stores_failure(self) -> bool:
        """False where the task's result is ignored, and its failures are as well."""
        return bool(self.store_errors or self._is_chord_part)

    def _settle(self, outcome: Outcome, *, is_lost: bool = False) -> None:
        """Write ``outcome``, unless the row knows better: the task's own process wrote it, or
        another worker has the job by now. Its first outcome counts.

        ``is_lost``: that process could not write it.
        """
        message = self._message
        if not message.is_settled:
            message.is_settled = True
            is_sole = is_lost or (
                outcome.is_sole
                and outcome.state is State.COMPLETED
                and (outcome.result is not None or self._ignore_result)
            )
            if outcome.state is not State.COMPLETED:
                outcome = outcome._replace(awaited=self.id)
                self.is_put_back = outcome.state is State.AVAILABLE
            if is_end_heard():
                outcome = outcome._replace(job=(self.task.name, self.id))
            message.channel.node.settle(outcome._replace(is_sole=bool(is_sole)))
            message.channel.transport.wake()


class NotOurs(Exception):
    """The job was requeued or revoked before the pool started it."""


def _is_signal(name: str) -> bool:
    """False for what a hand has written into the row, or a machine that has other signals."""
    try:
        signals.signum(name)
    except (AttributeError, TypeError):
        return False
    return True
