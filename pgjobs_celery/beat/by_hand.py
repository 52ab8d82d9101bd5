"""Publish a job because somebody has asked for it, and record who."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from ..control.acting import begin_action
from ..control.app import database_of
from ..errors import InvalidOption
from ..publishing.batch import take_part
from ..publishing.bulk import bulk
from .run import publish_entry


def publish_by_hand(
    app: Any,
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Publish a job of a task, and record it in the audit; the handle on its result.

    ``options`` are those of ``apply_async``. The job's meta has ``by_hand``. Raises InvalidOption
    for arguments that the task does not take, PgJobsError for an app whose jobs are elsewhere.
    """
    database = database_of(app)
    given = {"task_id": str(uuid4()), **(options or {})}
    with bulk():  # the job and its record in one transaction
        try:
            result = publish_entry(app, task, args, kwargs or {}, given, {"by_hand": True})
        except TypeError as error:
            raise InvalidOption(f"{task} does not take these arguments: {error}") from None
        action = begin_action("publish_jobs", app, details={"task": task})
        take_part(
            database,
            lambda: database.audit.record_action(action, jobs=1, task_ids=[result.id]),
        )
    return result
