"""A job as people and a task's ``backoff`` see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .states import State


@dataclass(frozen=True)
class Job:
    """A job as it is shown to people and to a task's ``backoff``; its contents are decoded.

    Fields after ``tags`` are None or empty when their source does not know them.
    """

    #: Celery's id of the task.
    task_id: str
    task: str
    queue: str
    state: State
    #: How often it has started; the run in progress included.
    attempt: int
    #: How often it may start, at most.
    max_attempts: int
    #: Its rank in line: 0 runs first.
    priority: int = 0
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    #: None if they are not plain JSON: another serializer, compressed, encrypted.
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    #: An entry for each failed attempt: attempt, at, type, message, and maybe began, worker,
    #: module, traceback, frame, cause. :func:`pgjobs_celery.control.attempts.attempts` reads them.
    errors: list[dict[str, Any]] = field(default_factory=list)
    #: The number of its row.
    id: int | None = None
    inserted_at: datetime | None = None
    scheduled_at: datetime | None = None
    attempted_at: datetime | None = None
    finished_at: datetime | None = None
    #: The name of the worker that ran it last.
    attempted_by: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    #: The task id of the job that took over its unique key.
    superseded_by: str | None = None
    #: How often its task has retried itself, by Celery's count.
    retries: int = 0
    #: ``max_attempts`` is the task's own. Of a plain task, whose retries are counted by its
    #: ``max_retries``, it is how often it may be delivered.
    has_own_limit: bool = False
    #: The name of the problem that its last failure is one of; None if it has not failed, or has
    #: completed since.
    fingerprint: str | None = None
    #: The gates that it has to pass, one a line, and the key that it shares its queue by; None in
    #: the line of its queue.
    lane: str | None = None
    #: How many tokens of a rate its start takes.
    cost: int = 1
    #: The idempotency key that it was published with.
    idempotency_key: str | None = None
