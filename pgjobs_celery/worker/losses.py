"""Find out how an attempt has ended whose process was lost before it could report that.

The row may have its end, and the child was lost in the code that follows; the job may be tried
again; or Celery publishes the task again by itself (``task_retry_on_worker_lost``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery._state import _task_stack
from celery.signals import task_retry
from celery.states import SUCCESS

from ..db.database import CONNECTION_ERRORS
from ..job.decide import End, is_killed
from ..job.exceptions import Postponed
from ..job.outcome import error_from
from ..job.progress import progress_of
from ..job.rows import Fence
from ..tasks.task import PgTask
from .tracking import TrackedRequest, claim_of

if TYPE_CHECKING:
    from ..job.rows import Claim


class LostRequest(TrackedRequest):
    """Mixin for ``Task.Request``: the reports of its pool about a process that is gone."""

    #: Celery's ``on_failure`` has reported the failure, and the job does not run again.
    _is_told = False

    def _find_stored(self) -> dict[str, Any]:
        """The result in the row of a task whose process was lost; empty without one."""
        claim = claim_of(self._message)
        if claim is None:
            return {}
        try:
            if not self._result_is_in_the_row():
                return {"status": SUCCESS} if self._is_completed_by(claim) else {}
            return dict(self.task.backend._get_task_meta_for(self.id))
        except Exception:  # the loss must be dealt with all the same
            return {}

    def _is_completed_by(self, claim: Claim) -> bool:
        """True if the row says that this attempt has completed the job: in its own transaction."""
        if not isinstance(self.task, PgTask):
            return False
        end = self._message.channel.database.held.find_end(
            self.id, Fence(self._message.channel.node.id, claim.attempt)
        )
        return end is not None and end.is_completed

    def _drop_errbacks_if_told(self) -> None:
        """billiard reports a hard time limit to ``on_failure`` first, and then to ``on_timeout``.

        Each has Celery call the errbacks; the second call is one too many.
        """
        if self._is_told:
            self._context.errbacks = None

    def _postpone(self, error: BaseException) -> Postponed | None:
        """The next attempt of a job whose process was killed; None where it must not have one.

        An attempt that its process could still postpone itself is a Postponed already.
        """
        if (
            claim_of(self._message) is None
            or not isinstance(self.task, PgTask)
            or not is_killed(error)
            or not self.task.acks_late
            or self._already_revoked
            or self._already_cancelled
        ):
            return None
        delay = self.task.next_delay(self._context, error)
        if delay is None and isinstance(error, WorkerLostError) and self._is_forgiven():
            delay = self.task.next_delay(self._context, error, is_forgiven=True)
        if not isinstance(error, Exception):
            error = WorkerLostError(repr(error))  # as threads and greenlets report it
        return None if delay is None else Postponed(delay, error, error_from(error))

    def _is_cut_off(self, error: BaseException) -> bool:
        """True where its process was lost, perhaps by another hand, while its worker had to leave.

        Celery would store that as the failure of the task, and so discard the job.
        """
        return bool(
            self._already_cancelled
            and isinstance(error, WorkerLostError)
            and self.task.acks_late
            and claim_of(self._message) is not None
        )

    def _is_forgiven(self) -> bool:
        """True where the job has done steps: that its process was lost costs it no attempt."""
        claim, node = self._message.claim, self._message.channel.node
        bound = node.settings.max_interruptions
        try:
            steps = node.database.steps
            return bool(steps.may_be_interrupted(claim.id, claim.attempt, bound))
        except CONNECTION_ERRORS:
            return False  # it is decided without that

    def _announce_retry(self, postponed: Postponed) -> ExceptionInfo:
        """Send the signal that the killed process cannot send any more."""
        info = raised(postponed)
        context = self._context
        task_retry.send(sender=self.task, request=context, reason=postponed, einfo=info)
        return info

    def _retry_worker_lost(self, exc: BaseException, exc_info: Any) -> bool:
        """Send it again as ``retry()`` would (``task_retry_on_worker_lost``, Celery 5.7)."""
        # This is the worker's main process, but the publisher is the task, which holds the job.
        context = self._context
        progress_of(context).was_lost = True
        _task_stack.push(self.task)
        self.task.request_stack.push(context)
        try:
            sent = bool(super()._retry_worker_lost(exc, exc_info))
        finally:
            self.task.request_stack.pop()
            _task_stack.pop()
        claim = claim_of(self._message)
        if sent and claim is not None:
            self._message.settle(self._decide(claim, End.REPUBLISHED))
        return sent


def raised(error: Exception) -> ExceptionInfo:
    """The form in which Celery keeps an exception that a task raised."""
    try:
        raise error
    except Exception:
        return ExceptionInfo()


def exception_of(exc_info: Any) -> BaseException:
    error: BaseException = exc_info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error
