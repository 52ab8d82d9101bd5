"""Notes of this package about the run of a task: one attribute on Celery's request, with fields.

Besides it a request has ``attempt`` and ``max_attempts``, which are for the task to read.
"""

from __future__ import annotations

from typing import Any

from ..errors import JobCompleted

_NAME = "pgjobs_progress"


class Effects:
    """The transaction in which a task completes its job, as far as it is known."""

    #: Its block is open.
    is_open = False
    #: It was committed, and the job is completed.
    is_committed = False
    #: Its claim was lost: it was rolled back, and another worker has the job.
    is_lost = False
    #: Whether it was committed could not be found out.
    is_unknown = False
    #: The task's return value, whatever it returns.
    value: Any = None


class Progress:
    """How far the run of a task has come, in the process that runs it."""

    #: The body of a PgTask runs: one that it calls, of its base class, is no attempt of its own.
    is_in_body = False
    #: Its ``before_start`` runs.
    is_preparing = False
    #: ``retry()`` has found that no attempt is left.
    is_at_its_limit = False
    #: The worker's main process writes how it ended; the result backend must not.
    is_left_to_worker = False
    #: The state that the result backend has stored last.
    stored_state: str | None = None
    #: The database in which the task has published itself again.
    retried_in: Any = None
    #: Its process was lost, and the worker's main process speaks for it.
    was_lost = False
    #: The task's own transaction; None while it has begun none.
    effects: Effects | None = None
    #: The job as the task sees it: a :class:`pgjobs_celery.tasks.running_job.RunningJob`.
    job: Any = None
    #: Its steps: a :class:`pgjobs_celery.tasks.steps.StepRun`.
    steps: Any = None

    @property
    def is_completed(self) -> bool:
        """True once the task's own transaction has completed the job."""
        return self.effects is not None and self.effects.is_committed

    @property
    def has_written_end(self) -> bool:
        """True where the result backend must not write how the run has ended."""
        return self.is_left_to_worker or self.is_completed

    def require_unfinished(self, what: str) -> None:
        """Raise JobCompleted if the task's own transaction has completed the job."""
        if self.is_completed:
            raise JobCompleted(
                f"{what} after the block of self.transaction(), which has completed the job: it "
                "cannot go on, run again or be replaced. Do it in the block, or before"
            )


def progress_of(request: Any) -> Progress:
    """The notes about the run that this request stands for; the same ones each time."""
    progress: Progress | None = request.__dict__.get(_NAME)
    if progress is None:
        progress = request.__dict__[_NAME] = Progress()
    return progress
