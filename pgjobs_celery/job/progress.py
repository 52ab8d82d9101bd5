"""Notes of this package about the run of a task: one attribute on Celery's request, with fields.

Besides it a request has ``attempt`` and ``max_attempts``, which are for the task to read.
"""

from __future__ import annotations

from typing import Any

_NAME = "pgjobs_progress"


class Progress:
    """How far the run of a task has come, in the process that runs it."""

    #: The body of a PgTask runs: one that it calls, of its base class, is no attempt of its own.
    is_in_body = False
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
    #: The job as the task sees it: a :class:`pgjobs_celery.tasks.running_job.RunningJob`.
    job: Any = None
    #: Its steps: a :class:`pgjobs_celery.tasks.steps.StepRun`.
    steps: Any = None


def progress_of(request: Any) -> Progress:
    """The notes about the run that this request stands for; the same ones each time."""
    progress: Progress | None = request.__dict__.get(_NAME)
    if progress is None:
        progress = request.__dict__[_NAME] = Progress()
    return progress
