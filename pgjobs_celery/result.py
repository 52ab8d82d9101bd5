"""The handle on a job that a PgTask returns: Celery's AsyncResult, and what it does not know."""

from __future__ import annotations

from celery.result import AsyncResult


class PgResult(AsyncResult):  # type: ignore[misc]
    """Celery's handle on a result, from a :class:`~pgjobs_celery.PgTask`."""

    #: True where the job was not published, because another one that is the same is there: this is
    #: the handle on that one.
    conflict = False
