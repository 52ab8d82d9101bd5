"""Signals that Celery does not have; connect as to Celery's own.

    from pgjobs_celery.signals import job_discarded

    @job_discarded.connect(sender="proj.tasks.welcome")
    def tell(sender, task_id, error, **_): ...

All are sent in the worker's main process, after the change was committed, from the thread that
wrote it: a receiver must be quick. An exception in a receiver is logged, and changes nothing. A
signal without receivers costs nothing.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

__all__ = ["job_claimed", "job_discarded", "job_finished", "jobs_pruned", "jobs_rescued"]

#: A worker has taken a job, which will begin. ``sender``: the task's name; ``task_id``, ``queue``,
#: ``attempt``, ``max_attempts``.
job_claimed = Signal(
    name="job_claimed", providing_args={"task_id", "queue", "attempt", "max_attempts"}
)

#: A job has come to its end in this worker. ``sender``: the task's name; ``task_id``, ``attempt``,
#: ``state`` (completed, discarded or cancelled), ``error`` (the newest entry of ``errors`` as a
#: dict, or None).
job_finished = Signal(name="job_finished", providing_args={"task_id", "attempt", "state", "error"})

#: A job has failed for good in this worker; sent after :data:`job_finished`. ``sender``: the task's
#: name; ``task_id``, ``attempt``, ``error``.
job_discarded = Signal(name="job_discarded", providing_args={"task_id", "attempt", "error"})

#: This process has taken from dead nodes what they held. ``sender``: None; ``nodes`` (their names),
#: ``returned`` and ``discarded`` (how many jobs went back in line, and how many did not).
jobs_rescued = Signal(name="jobs_rescued", providing_args={"nodes", "returned", "discarded"})

#: This process has deleted jobs that had finished long ago. ``sender``: None; ``count``.
jobs_pruned = Signal(name="jobs_pruned", providing_args={"count"})


def is_end_heard() -> bool:
    """True if a receiver is connected for the end of jobs."""
    return bool(job_finished.receivers or job_discarded.receivers)
