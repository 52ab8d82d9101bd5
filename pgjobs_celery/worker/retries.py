"""Write down why a task has retried itself, where its backend does not.

Celery stores a retry only of a task whose result is wanted; the row's ``errors`` have an entry
for each failed attempt, wherever results are kept, or nowhere.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import states
from celery.signals import task_retry

from ..db.database import CONNECTION_ERRORS, REFUSALS
from ..job.exceptions import Postponed
from ..job.held_claim import held_claim
from ..job.outcome import Result, clean_text, error_entry, error_from
from ..job.progress import progress_of
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))


def install() -> None:
    """Listen to Celery's own signal, in this process and its children."""
    task_retry.connect(record_retry, dispatch_uid="pgjobs-retrying")


def record_retry(sender: Any, request: Any, reason: Any, einfo: Any = None, **_: Any) -> None:
    """A task has published itself again (``task_retry``): write that into its row."""
    held = held_claim(request)
    if held is None or isinstance(reason, Postponed):
        return
    progress = progress_of(request)
    database = progress.retried_in
    if database is None:
        return
    backend = getattr(sender.backend, "database", None)
    if progress.stored_state == states.RETRY and backend is database:
        return
    traceback = clean_text(str(einfo.traceback)) if einfo is not None else None
    error = getattr(reason, "exc", None)
    entry = (
        error_from(error, traceback)
        if isinstance(error, BaseException)
        else error_entry("Retry", "the task has retried itself", traceback)
    )
    result = Result(str(request.id), None, None, None, None, entry)
    try:
        database.results.record_retry(result, held.fence)
    except (*CONNECTION_ERRORS, *REFUSALS) as lost:
        # It runs again all the same.
        logger.warning("task %s: why it was retried was not written: %s", request.id, lost)
