"""The states a job moves through, and what Celery calls them."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """A job's state as it stands in ``pgjobs.jobs.state``."""

    SCHEDULED = "scheduled"  #: its eta lies in the future
    AVAILABLE = "available"  #: may be claimed
    EXECUTING = "executing"  #: claimed by a live node
    RETRYABLE = "retryable"  #: failed, due again at ``due_at``
    COMPLETED = "completed"  #: done, result in the row
    DISCARDED = "discarded"  #: failed for good
    CANCELLED = "cancelled"  #: revoked before or while running

    def __str__(self) -> str:
        return self.value

    @property
    def is_final(self) -> bool:
        """True once no worker will ever touch the job again."""
        return self in FINAL


FINAL = frozenset({State.COMPLETED, State.DISCARDED, State.CANCELLED})

#: Celery's word for each of our states. A job that is available again after a failed
#: attempt still reads RETRY (see :func:`celery_state`).
TO_CELERY: dict[State, str] = {
    State.SCHEDULED: "PENDING",
    State.AVAILABLE: "PENDING",
    State.EXECUTING: "PENDING",
    State.RETRYABLE: "RETRY",
    State.COMPLETED: "SUCCESS",
    State.DISCARDED: "FAILURE",
    State.CANCELLED: "REVOKED",
}

#: Which state a final or retrying Celery state puts the row in; any other name a task
#: reports (STARTED, PROGRESS, ...) leaves the row executing.
FROM_CELERY: dict[str, State] = {
    "SUCCESS": State.COMPLETED,
    "FAILURE": State.DISCARDED,
    "REVOKED": State.CANCELLED,
    "RETRY": State.RETRYABLE,
}


def celery_state(state: State, reported: str | None) -> str:
    """Celery's name for a row in ``state`` whose task last reported ``reported``.

    ``reported`` is what the running task said of itself (STARTED, PROGRESS, RETRY or any
    custom state); it counts only until the job is finished.
    """
    if reported and not state.is_final:
        return reported
    return TO_CELERY[state]
