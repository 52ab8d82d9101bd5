"""``audit(app)``: who did what to jobs, queues and entries, when, and to how many."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ..db.database import Database
from ..db.rows.audit import AuditEntry
from ..errors import InvalidOption
from ..job.checks import did_you_mean, is_whole_number
from .app import database_of
from .filters import seconds, text

#: Every action, and its meaning.
ACTIONS = {
    "cancel_jobs": "jobs were cancelled, or told to stop",
    "retry_jobs": "jobs were put in line again",
    "delete_jobs": "jobs were deleted",
    "reschedule_jobs": "jobs were given another time, or made to run now",
    "prioritize_jobs": "jobs were given another priority",
    "move_jobs": "jobs were moved to another queue",
    "signal_job": "signals were sent to jobs",
    "stop_operation": "an action on many jobs was told to stop",
    "resume_operation": "an action on many jobs was gone on with",
    "publish_jobs": "a job was published by hand",
    "pause_queue": "a queue was paused",
    "resume_queue": "a queue was resumed",
    "limit_queue": "a queue was given another limit, or none",
    "share_queue": "a queue was made to serve its keys in turn, or not any more",
    "weigh_key": "a key of a queue was given another weight",
    "bound_queue": "a queue was given another maximum depth, or none",
    "drop_jobs": "the oldest jobs of a full queue were cancelled to make room for newer ones",
    "reset_queue": "the rules of a queue that were set by hand were taken away",
    "set_flow": "a rate or a limit was set by hand",
    "reset_flow": "a rate or a limit that was set by hand was taken away",
    "pause_jobs": "the jobs of a task, with a tag or of a key were paused",
    "resume_jobs": "the jobs of a task, with a tag or of a key were resumed",
    "purge_queue": "the waiting jobs of a queue were cancelled",
    "delete_queue": "a queue was deleted, and the jobs that waited in it were cancelled",
    "add_schedule": "an entry was made",
    "put_schedule": "an entry was made or changed",
    "pause_schedule": "an entry was paused",
    "resume_schedule": "an entry was resumed",
    "repair_schedule": "the times of an entry were repaired",
    "run_schedule": "an entry was published beside its ticks",
    "delete_schedule": "an entry was deleted",
    "shutdown_worker": "a worker was told to shut down",
    "grow_pool": "a worker was told to run more tasks at once",
    "shrink_pool": "a worker was told to run fewer tasks at once",
}


class Place(NamedTuple):
    """Where a page of the audit ends."""

    at: datetime
    id: int


class AuditLog:
    """The audit of a database."""

    def __init__(self, database: Database) -> None:
        self._rows = database.audit

    def __iter__(self) -> Iterator[AuditEntry]:
        """All actions, the newest first, read as they are asked for."""
        before: AuditEntry | None = None
        while page := self.list(before=before):
            yield from page
            before = page[-1]

    def list(
        self,
        limit: int | None = 100,
        *,
        actor: str | None = None,
        action: str | None = None,
        queue: str | None = None,
        schedule: str | None = None,
        job: Any = None,
        since: datetime | timedelta | float | None = None,
        before: AuditEntry | Place | None = None,
    ) -> list[AuditEntry]:
        """Up to ``limit`` actions (None: all) that fit all that is given, the newest first.

        ``job`` is a task's id, or what has one; ``since`` a time, or an age in seconds; ``before``
        the last entry of a page, after which the next page goes on. Raises InvalidOption for an
        unknown action, and for a value that cannot be used.
        """
        if limit is not None and not is_whole_number(limit, 0):
            raise InvalidOption(f"limit must be a whole number from 0 on, or None, not {limit!r}")
        if action is not None and action not in ACTIONS:
            near = did_you_mean(str(action), ACTIONS)
            raise InvalidOption(f"there is no action {action!r}{near}")
        is_time = isinstance(since, datetime)
        return self._rows.list_actions(
            limit=limit,
            actors=None if actor is None else [text("actor", actor)],
            actions=None if action is None else [action],
            queue=None if queue is None else text("queue", queue),
            schedule=None if schedule is None else text("schedule", schedule),
            job=None
            if job is None
            else text("job", getattr(job, "task_id", getattr(job, "id", job))),
            since=_aware(since) if isinstance(since, datetime) else None,
            age=None if since is None or is_time else seconds("since", since),
            before=before,
        )


def audit(app: Any) -> AuditLog:
    """The actions of people and programs on the jobs, queues and entries of a Celery app.

    It is in the database of the app's broker, or else of its result backend; a
    :class:`~pgjobs_celery.db.database.Database` may be given as well. Raises PgJobsError if the app
    has neither.

    >>> [entry.actor for entry in audit(app).list(action="pause_queue", queue="emails")]
    ['alice@example.com']
    """
    return AuditLog(app if isinstance(app, Database) else database_of(app))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.astimezone()
