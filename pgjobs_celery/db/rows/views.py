"""A job as its page shows it, and jobs to compare it with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ...job.states import State
from .nodes import read_object
from .results import possible_ids

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session

#: Up to how many bytes each of its parts is read: what is larger is told by its size.
LARGEST = 1024 * 1024
#: Among how many of the newest ends others of its task are looked for: about 5 ms.
DEPTH = 5_000


class ShownJob(NamedTuple):
    """A row of jobs, at a time of the server's."""

    id: int
    task_id: str
    task: str
    queue: str
    state: State
    attempt: int
    max_attempts: int
    priority: int
    tags: list[str]
    #: Empty where it is larger than :data:`LARGEST`, or no object.
    meta: dict[str, Any]
    #: The envelope, and the body; None for what stands for a task, and where it is too large.
    message: str | None
    body_size: int | None
    body: bytes | None
    result_size: int | None
    result: bytes | None
    result_type: str | None
    reported_state: str | None
    traceback: str | None
    errors: list[dict[str, Any]]
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    attempted_by: str | None
    cancel_reason: str | None
    cancel_signal: str | None
    superseded_by: str | None
    redelivered: bool
    acks_late: bool
    is_unique: bool
    idempotency_key: str | None
    inserted_at: datetime
    scheduled_at: datetime
    due_at: datetime | None
    attempted_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    now: datetime


class PastRun(NamedTuple):
    """A job of the same task that has ended."""

    task_id: str
    state: State
    attempt: int
    #: How long its last attempt ran, in seconds; None for a job that never began.
    seconds: float | None
    finished_at: datetime
    worker: str | None


class Alike(NamedTuple):
    """A job of the same task that has something in common."""

    task_id: str
    state: State
    has_error: bool
    has_arguments: bool
    has_tags: bool
    finished_at: datetime


class Views:
    """Statements for the page of a job, one method each: they lock nothing and are bounded."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def show_job(self, task_id: str) -> ShownJob | None:
        """The job; None if it has no row."""
        return next(iter(self.show_jobs([task_id])), None)

    def show_jobs(self, task_ids: Iterable[str], largest: int = LARGEST) -> list[ShownJob]:
        """Those of the ids that have a row; what is larger than ``largest`` is left out."""
        if not (ids := possible_ids(task_ids)):
            return []
        return [_shown(row) for row in self._fetch("view_jobs", ids=ids, most=largest)]

    def list_runs(self, task: str, limit: int = 60) -> tuple[list[PastRun], bool]:
        """The last runs of a task, the newest first.

        And whether all :data:`DEPTH` rows were looked at: older ones may be missing.
        """
        rows = self._fetch("list_runs", task=task, limit=limit, depth=DEPTH)
        runs = [PastRun(*row[:-1])._replace(state=State(row[1])) for row in rows]
        return runs, bool(rows) and bool(rows[0][-1])

    def list_alike(self, task_id: str, limit: int = 20) -> list[Alike]:
        """Others of its task that ended with its error, or have its arguments or its tags."""
        rows = self._fetch("list_alike", task_id=task_id, limit=limit, depth=DEPTH, most=LARGEST)
        found = {row[0]: Alike(*row)._replace(state=State(row[1])) for row in reversed(rows)}
        return [*reversed(found.values())][:limit]

    def list_reprs(self, task_ids: Iterable[str]) -> dict[str, tuple[str | None, str | None]]:
        """By id: ``argsrepr`` and ``kwargsrepr`` of the message."""
        rows = self._fetch("list_reprs", ids=possible_ids(task_ids), most=LARGEST)
        return {task_id: (args, kwargs) for task_id, args, kwargs in rows}

    def _fetch(self, name: str, /, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, **values)]
        return session.retrying(lambda: session.run(calls))[1]


def _shown(row: Row) -> ShownJob:
    values: dict[str, Any] = dict(zip(ShownJob._fields, row, strict=True))
    values["state"] = State(values["state"])
    values["meta"] = read_object(values["meta"])
    values["errors"] = _read_errors(values["errors"])
    for name in ("body", "result"):
        values[name] = None if values[name] is None else bytes(values[name])
    return ShownJob(**values)


def _read_errors(text: str | None) -> list[dict[str, Any]]:
    try:
        entries = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)]
