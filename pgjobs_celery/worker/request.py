"""The request of a task in a worker's main process, which reports its outcome to the row.

``Task.Request`` is Celery's extension point. Celery derives one more class from it for each task,
and overrides ``on_success`` there; ``__init_subclass__`` puts itself in front of that.

Acknowledging is not the outcome: Celery acknowledges most tasks when they begin. The outcome
of the job is decided from what Celery calls when a task ends (``job/decide.py``), and written in
batches.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, TimeLimitExceeded
from celery.exceptions import TaskRevokedError
from celery.platforms import signals
from celery.states import FAILURE, SUCCESS
from celery.worker.state import task_ready

from ..job.decide import End, decide_success, is_killed
from ..job.exceptions import CancelledByTask
from ..job.outcome import FinishedJob
from ..job.states import State
from ..printable import guarded
from ..results.handover import Committed, Summary, TracingPool
from ..signals import is_end_heard, job_claimed
from ..tasks.task import PgTask
from .cancelling import CancelledRequest
from .guard import is_connection_lost, set_aside
from .headers import check_headers
from .losses import LostRequest, exception_of, raised
from .pool import withdraw
from .tracking import claim_of

if TYPE_CHECKING:
    from ..job.rows import Claim

logger = guarded(logging.getLogger(__name__))


class JobRequest(CancelledRequest, LostRequest):
    """Mixin for ``Task.Request``: tells the row what becomes of its task."""

    #: Why the task failed, while Celery decides what follows from it.
    _failure: Any = None
    #: The task is known to have succeeded.
    _has_succeeded = False

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
            if job_claimed.receivers:
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
                celerys = specialised.__get__(self)
                return self._report_success(celerys, failed__retval__runtime, kwargs)

            # Celery's own is as good as the specialised one, and takes the pool from us.
            ours = (on_success, JobRequest.execute_using_pool)
            for method in ours:
                setattr(cls, method.__name__, method)

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        """The task returned, or (Celery calls this for both) failed."""
        return self._report_success(super().on_success, failed__retval__runtime, kwargs)

    def _report_success(self, celerys: Callable[..., Any], report: Any, options: Any) -> Any:
        """Call Celery's own ``on_success``, and then settle what the pool reports."""
        self._track()
        if isinstance(report, ExceptionInfo):
            # A thread, and the solo pool, report so a task that has left its process (sys.exit).
            # Celery fails on it, and nothing would report the end of the job.
            return self.on_failure(report)
        failed = report[0]
        if failed is False:
            # Celery reports a killed greenlet so; of a task that has run this is 0 or 1.
            return self.on_failure(raised(Terminated(signals.signum("TERM"))))
        if failed:
            return celerys(report, **options)
        try:
            try:
                return celerys(report, **options)
            finally:
                self._succeeded(report[1])
        except Exception as error:
            self._make_room(error)
            raise

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, as a strategy may; the row has what is stored of it."""
        self._track()
        returned = super().execute(*args, **kwargs)
        claim = claim_of(self._message)
        if claim is not None:
            self._settle(self._decide(claim, End.RETURNED))
        return returned

    def execute_using_pool(self, pool: Any, **kwargs: Any) -> Any:
        """Send the task to the pool."""
        if self._is_pool_ending():
            # Celery gives its place in the pool back for this error; the job goes back in line.
            raise TaskRevokedError(self.id)
        self._track()
        if claim_of(self._message) is not None and self._message.is_settled:
            raise TaskRevokedError(self.id)  # it was given back while it waited for a place
        self._is_being_sent = True
        try:
            return super().execute_using_pool(TracingPool(pool), **kwargs)
        except TaskRevokedError:
            raise
        except Exception as error:
            if claim_of(self._message) is None or is_connection_lost(error):
                raise
            # It cannot be sent (its headers are too deep for a pickle, say), or it ran here (solo).
            withdraw(pool, self.id)
            task_ready(self)
            if not isinstance(error, NotOurs):
                set_aside(self._message, error)
            # Celery gives its place in the pool back for this error.
            raise TaskRevokedError(self.id) from error
        finally:
            self._is_being_sent = False

    def on_accepted(self, pid: int, time_accepted: float) -> Any:
        """The task begins."""
        self._track()
        message = self._message
        if claim_of(message) is not None:
            is_here = pid == os.getpid() or self._begins_late()
            if is_here and (self.revoked() or self._is_fenced() or not message.begin()):
                # It waited in the pool of this process, and is not ours, or must not run, any more.
                if self._has_processes():
                    return None  # its child died before it began, and billiard hears of no error
                raise NotOurs(f"job {message.claim.id} was put back or revoked before it began")
            message.note_begun()
        try:
            returned = super().on_accepted(pid, time_accepted)
            if self._has_processes() and self._is_pool_ending():
                # Its child had said so, and the signal came before that was heard: Celery's handler
                # has told only those to end of which it knew, and waits for this one.
                message.channel.node.pool.end_begun()
            return returned
        except NotImplementedError:
            return None  # this pool cannot terminate it: the task is told, if it asks
        except Exception as error:
            if claim_of(message) is not None and not self._has_processes():
                # In a thread that ends it before it has begun.
                task_ready(self)
                set_aside(message, error)
            raise

    def _is_fenced(self) -> bool:
        """True, and the job given back, when other workers may be about to take it."""
        message = self._message
        if not message.channel.node.is_fenced:
            return False
        message.give_back()
        return True

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """The task failed, was rejected, ignored, retried or killed."""
        self._track()
        error = exception_of(exc_info)
        stored = self._find_stored() if is_killed(error) else {}
        if stored.get("status") == SUCCESS:
            # Its process was lost after that, in a hook or in a signal's receiver.
            return self.on_success((0, Committed(), None))
        if stored.get("status") == FAILURE and isinstance(stored["result"], Exception):
            # It was lost before its errbacks were called, perhaps.
            self._is_stored = True
            exc_info = raised(stored["result"])
        elif self._is_cut_off(error):
            self._settle_failure(self._message.claim, exc_info)
            return None
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
        outcome = self._decide(
            claim,
            End.RAISED,
            error,
            traceback=exc_info.traceback,
            is_lost=getattr(exc_info, "is_lost", False),
            is_shared=not self._ignore_result,
            stores_failure=self._stores_failure_of(error),
            is_revoked=self._already_revoked,
            is_cut_short=self._already_cancelled,
        )
        self._settle(outcome)
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
                # billiard logs it for a child's task; for a thread nothing would.
                logger.error(
                    "the end of task %s[%s] raised %r", self.task.name,
                    self.id, error, exc_info=error,
                )  # fmt: skip
            self._message.channel.basic_reject(self._message.delivery_tag)

    def reject(self, requeue: bool = False) -> Any:
        """Celery refuses the message: the channel hears of it later, from the event loop."""
        claim = claim_of(self._message)
        if claim is not None and requeue and not self.acknowledged:
            error = exception_of(self._failure) if self._failure else None
            self._settle(self._decide(claim, End.REQUEUED, error))
        return super().reject(requeue=requeue)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """A time limit was exceeded; the hard one has killed the task."""
        self._track()
        claim = claim_of(self._message)
        if claim is None or soft:
            return super().on_timeout(soft, timeout)
        if self._has_succeeded:
            return None  # its process was ended after that, and on_failure has heard of it
        if self._postpone(TimeLimitExceeded(timeout)):
            # on_failure hears of it as well, and decides on the next attempt.
            logger.error(
                "hard time limit (%ss) exceeded for %s[%s]",
                timeout, self.task.name, self.id,
            )  # fmt: skip
            return None
        outcome = self._decide(
            claim, End.TIMED_OUT, limit=timeout, stores_failure=self.stores_failure
        )
        if outcome is not None and outcome.state is State.AVAILABLE:
            # Celery stores a failure and then requeues. The row would be finished by the first.
            self._settle(outcome)
            self._message.channel.node.flush()
        try:
            try:
                self._drop_errbacks_if_told()
                return super().on_timeout(soft, timeout)
            finally:
                self._settle(outcome)
        except Exception as error:
            self._make_room(error)
            raise

    def _succeeded(self, returned: Any) -> None:
        """The task has returned this, and Celery knows of it: settle its job."""
        claim = claim_of(self._message)
        if claim is None:
            return
        self._has_succeeded = True
        result, is_written, is_lost = None, False, False
        if isinstance(returned, Summary):
            result = returned.result
            is_lost = result is None
        elif isinstance(returned, Committed):
            is_written = True
        else:
            is_written = self._result_is_in_the_row()
        job = (self.task.name, self.id) if is_end_heard() else None
        is_shared = not self._ignore_result
        self._settle(decide_success(claim, result, is_written, is_lost, is_shared, job))
        if is_written and job:
            # The node announces all others once it has written them.
            finished = FinishedJob(*job, claim.attempt, State.COMPLETED, None)
            self._message.channel.node.announce([finished])


class NotOurs(Exception):
    """The job was requeued or revoked before the pool started it."""
