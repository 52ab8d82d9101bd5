"""The steps of a job, and what it waits for, as people and programs see them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..db.rows.steps import DoneStep

if TYPE_CHECKING:
    from ..db.database import Database


@dataclass(frozen=True)
class JobStep:
    """A step that a job has done."""

    #: With its number from the second of that name on.
    name: str
    #: ``step``, ``sleep``, ``signal``, ``timeout`` or ``patch``.
    kind: str
    #: Its returned value, or the signal's payload: where that is JSON, its value; otherwise its
    #: bytes, and None where these are more than a megabyte.
    value: Any
    #: The attempt that has recorded it, and when.
    attempt: int
    recorded_at: datetime


@dataclass(frozen=True)
class JobWait:
    """A sleep of a job, or its wait for a signal."""

    #: The name of the signal; None for a sleep.
    signal: str | None
    #: By which a signal may find the job, besides its task id.
    key: str | None
    #: When it came here first, and when it goes on without a signal; None for never.
    since: datetime
    until: datetime | None


def steps_of(database: Database, task_id: str) -> list[JobStep]:
    """The steps that a job has done, in their order; the first 1,000."""
    return [
        JobStep(step.name, step.kind, value_of(step), step.attempt, step.recorded_at)
        for step in database.steps.list_steps(task_id)
    ]


def wait_of(database: Database, task_id: str) -> JobWait | None:
    """The sleep, or the signal, that a job waits for; None where it does neither."""
    found = database.steps.find_wait(task_id)
    return found and JobWait(found.signal, found.key, found.since, found.until)


def value_of(step: DoneStep) -> Any:
    """The value that the step has returned, as far as it can be shown."""
    if step.value is None or step.value_type != "application/json":
        return step.value
    try:
        return json.loads(step.value)
    except (ValueError, RecursionError):
        return step.value
