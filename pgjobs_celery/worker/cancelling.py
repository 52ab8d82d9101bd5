"""End a task that must not begin or go on: it was revoked, or its worker has to leave at once."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from celery.platforms import signals
from celery.signals import task_revoked
from celery.worker.state import revoked, task_ready

from ..job.decide import End
from ..printable import guarded
from .tracking import TrackedRequest, claim_of

if TYPE_CHECKING:
    from ..job.rows import Cancellation

logger = guarded(logging.getLogger(__name__))


class CancelledRequest(TrackedRequest):
    """Mixin for ``Task.Request``: revokes the task, or ends it, and tells the row."""

    #: A cancellation that was asked for.
    _cancellation: Cancellation | None = None
    #: By which signals the task was told to end.
    _signals: frozenset[int] = frozenset()

    def maybe_expire(self) -> bool:
        """True, and the task revoked, if it is too late to run it: by the database's clock."""
        expires_at = getattr(self._message, "expires_at", None)
        if expires_at is None:
            return bool(super().maybe_expire())
        if time.monotonic() <= expires_at:
            return False
        revoked.add(self.id)
        return True

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

    def end_job(self, pool: Any, cancellation: Cancellation) -> None:
        """Cancel the job: it must not begin; one that runs may be terminated."""
        before, self._cancellation = self._cancellation, cancellation
        if not self._is_in_pool():
            self.revoked()
            return
        if cancellation.signal is None:
            if before is None and hasattr(pool, "cancel_job"):
                pool.cancel_job(self.worker_pid)  # a coroutine is told, whether it asks or not
            return
        if before and before.signal == cancellation.signal:
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
        """End the task, once for each signal: its row and the workers each ask for it."""
        number = signals.signum(signal or "TERM")
        if claim_of(self._message) is not None:
            if number in self._signals:
                return
            self._signals = self._signals | {number}
        super().terminate(pool, signal)

    def _announce_revoked(
        self, reason: str, terminated: bool, signum: str | None, expired: bool
    ) -> None:
        """Revoked or expired before it began, or terminated: Celery calls each of these REVOKED."""
        self._track()
        if self._cancellation is not None:
            reason = self._cancellation.reason
        if self._already_revoked:
            return  # a killed greenlet reports it, and so does its killer, later
        try:
            super()._announce_revoked(reason, terminated, signum, expired)
        finally:
            claim = claim_of(self._message)
            if claim is not None:
                self._settle(self._decide(claim, End.REVOKED, reason=reason))

    def _announce_cancelled_by_task(self) -> None:
        """Send monitors the event that Celery sends for a revoked task."""
        revoked = {"terminated": False, "signum": None, "expired": False}
        self.send_event("task-revoked", **revoked)
        task_revoked.send(sender=self.task, request=self._context, **revoked)

    def cancel(self, *args: Any, **kwargs: Any) -> None:
        """End the task, because its worker must leave at once."""
        if self.time_start:
            # Before Celery sets it: a greenlet says at once that it was killed.
            self._already_cancelled = True
        # Threads, and the solo pool, cannot do it, and raise that into the code that the signal has
        # interrupted: in the solo pool the task itself, which would fail.
        with contextlib.suppress(NotImplementedError):
            super().cancel(*args, **kwargs)

    def _announce_cancelled(self, **kwargs: Any) -> None:
        """Ended by a cold shutdown, or (where that is asked for) because the connection was lost.

        Celery reports RETRY at once. But the task may have ended meanwhile, unheard: the pool's
        report counts, which comes when its processes have gone.
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

    def settle_cancelled(self) -> None:
        """The pool has ended without a report of this task."""
        claim = claim_of(self._message)
        if claim is not None:
            self._settle(self._decide(claim, End.UNREPORTED))


def _is_signal(name: str) -> bool:
    """False for a name that is not a signal on this machine."""
    try:
        signals.signum(name)
    except (AttributeError, TypeError):
        return False
    return True
