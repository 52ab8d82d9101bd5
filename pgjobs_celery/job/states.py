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
#: The states in which a job may still be changed: it waits for a worker.
WAITING = frozenset({State.SCHEDULED, State.AVAILABLE, State.RETRYABLE})

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


#: The states that each of Celery's names may stand for, when jobs are looked for by it.
BY_CELERY_NAME: dict[str, frozenset[State]] = {
    "PENDING": frozenset({State.SCHEDULED, State.AVAILABLE}),
    "RECEIVED": frozenset({State.EXECUTING}),
    "STARTED": frozenset({State.EXECUTING}),
    **{name: frozenset({state}) for name, state in FROM_CELERY.items()},
}


def celery_state(
    state: State, reported: str | None, *, has_result: bool = True, from_row: bool = False
) -> str:
    """Celery's name for a row in ``state`` whose task last reported ``reported``.

    ``reported`` is the state that the running task reported (STARTED, PROGRESS, RETRY or any custom
    state). In a row that has finished it stands where nothing was stored of the end: the task
    raised Ignore, or its result is ignored. So it is with Celery's other backends, where
    the last stored state stands, and PENDING is that nothing ever was. ``from_row``: as the row
    ended, whatever was stored. A RETRY alone has no result: its exception stands in ``errors``.
    """
    if not state.is_final:
        return reported or TO_CELERY[state]
    if from_row or state is State.CANCELLED:
        return TO_CELERY[state]
    if state is State.COMPLETED and not has_result and reported != "RETRY":
        return "PENDING"
    return reported or TO_CELERY[state]
