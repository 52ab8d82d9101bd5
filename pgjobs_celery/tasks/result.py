"""The handle on a job that a PgTask returns: Celery's AsyncResult, extended."""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult

from ..control.acting import begin_action
from ..control.jobs import jobs
from ..control.signal import asignal, signal
from ..errors import PgJobsError
from ..results.aio import aget


class PgResult(AsyncResult):
    """Celery's handle on a result, from a :class:`~pgjobs_celery.PgTask`."""

    #: True if the job was not published because an equal one exists: this is the handle on that
    #: one.
    conflict = False

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """As ``get()``, in an asyncio program: does not block its loop.

        Raises the task's exception, unless ``propagate`` is false, and Celery's ``TimeoutError``
        if the result is not there after ``timeout`` seconds.
        """
        return await aget(self, timeout, propagate)

    def signal(self, name: str, payload: Any = None, *, first: bool = False) -> bool:
        """Send a signal to the job: see :func:`pgjobs_celery.signal`.

        >>> order.signal("approved", {"by": "alice"})
        True
        """
        return signal(self.app, self.id, name, payload, first=first)

    async def asignal(self, name: str, payload: Any = None, *, first: bool = False) -> bool:
        """As :meth:`signal`, for asyncio programs."""
        return await asignal(self.app, self.id, name, payload, first=first)

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
        *,
        reason: str = "",
    ) -> bool:
        """Cancel the job, waiting or running, with or without a worker; True if it had not ended.

        A running task is told (``self.is_cancelled()``), or ended by ``signal`` if ``terminate``.
        This happens in the job's row, so there is no reply to ``wait`` for. A job that is not
        published yet is cancelled when it is. If the app's jobs are elsewhere, this is Celery's own
        revoke, which asks the workers.

            >>> add.apply_async((2, 2), countdown=60).revoke(reason="no longer needed")
            True
        """
        try:
            job = jobs(self.app).filter(id=self.id)
        except PgJobsError:
            super().revoke(connection, terminate, signal, wait, timeout)
            return True
        if job.cancel(reason, terminate=terminate, signal=signal or "SIGTERM"):
            return True
        if not job.exists():
            action = begin_action("cancel_jobs", self.app, details={"reason": reason})
            job.database.jobs.forbid_jobs([self.id], action)
        return False
