"""The rows of ``audit``: who did what, when, and to how many."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID, uuid4

from ...errors import PermissionMissing
from ...job.states import State

if TYPE_CHECKING:
    from ..session import Session

#: How many task ids a row names: 36 bytes and an entry of an index each. A batch has up to 1,000.
NAMED = 100
#: The actions that end jobs: a job that no row names is found by the time of its end.
ENDING = ("cancel_jobs", "purge_queue", "delete_queue", "drop_jobs")


@dataclass(frozen=True)
class Changed:
    """A job that an action has changed, as it is now."""

    task_id: str
    queue: str
    state: State


@dataclass
class Action:
    """An action under way: all that its rows say alike."""

    action: str
    actor: str
    via: str
    client: str
    queue: str | None = None
    app: str | None = None
    schedule: str | None = None
    filters: str | None = None
    #: As JSON can hold it.
    details: Mapping[str, Any] = field(default_factory=dict)
    action_id: UUID = field(default_factory=uuid4)
    #: How many of its batches are committed, each of which has a row.
    batches: int = 0
    #: The number of the row behind which it goes on; None at the beginning.
    through: int | None = None
    #: Is told of each batch in its transaction, which fails with it: how far it went through, and
    #: the jobs that it has changed.
    within: Callable[[int | None, Sequence[Changed]], object] | None = None

    def values(
        self, jobs: int = 0, task_ids: Sequence[str] = (), queue: str | None = None
    ) -> dict[str, Any]:
        """The values of its next row, for the statement record_action."""
        return {
            "action": self.action, "actor": self.actor, "via": self.via, "client": self.client,
            "queue": self.queue or queue, "app": self.app, "schedule": self.schedule,
            "jobs": jobs, "task_ids": list(task_ids[:NAMED]), "filters": self.filters,
            "details": json.dumps(self.details), "action_id": self.action_id,
            "batch": self.batches,
        }  # fmt: skip


class AuditEntry(NamedTuple):
    """An action that was done."""

    #: The number of its row.
    id: int
    #: When, by the server's clock.
    at: datetime
    #: A word of :data:`pgjobs_celery.control.audit.ACTIONS`.
    action: str
    #: The person, task or process that did it.
    actor: str
    #: How it was asked for: ``cli``, ``admin``, ``web``, ``control`` or ``program``.
    via: str
    #: The user, host and process that it came from.
    client: str
    #: The database role, and the address that the server saw; None for a local socket.
    role: str
    address: str | None
    #: The queue that it was done to, or that all of its jobs were in.
    queue: str | None
    #: The entry that it was done to, and its app.
    app: str | None
    schedule: str | None
    #: How many jobs it changed.
    jobs: int
    #: The task ids of the first of them.
    task_ids: list[str]
    #: The filters that chose the jobs, ids apart.
    filters: str | None
    #: Its own words: ``reason``, ``signal``, ``priority``, ``to``, ``concurrency``, ...
    details: dict[str, Any]


class Place(Protocol):
    """Where a page ends: an entry, or as much of it."""

    @property
    def at(self) -> datetime: ...
    @property
    def id(self) -> int: ...


class Doer(NamedTuple):
    """The one that did something, and how: all that an explanation tells."""

    actor: str
    action: str
    via: str


class Audit:
    """Statements on the audit, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def acting(self) -> AbstractContextManager[None]:
        """A transaction for an action and its row: ours, or the caller's that this is part of."""
        return nullcontext() if self._session.is_joined else self._session.transaction()

    def record_action(
        self,
        action: Action,
        *,
        jobs: int = 0,
        task_ids: Sequence[str] = (),
        queue: str | None = None,
    ) -> None:
        """Write a row of the action, or of its next batch; in :meth:`acting` with what it tells of.

        ``queue`` is that of the jobs, where the action itself names none.
        """
        self._session.fetch("record_action", **action.values(jobs, task_ids, queue))

    def list_actions(
        self,
        *,
        limit: int | None,
        actors: Sequence[str] | None = None,
        actions: Sequence[str] | None = None,
        queue: str | None = None,
        schedule: str | None = None,
        job: str | None = None,
        since: datetime | None = None,
        age: float | None = None,
        before: Place | None = None,
    ) -> list[AuditEntry]:
        """The actions that all of these fit, the newest first; ``before`` is the last of a page."""
        session = self._session
        values = {
            "limit": limit, "actors": actors and list(actors), "actions": actions and list(actions),
            "queue": queue, "schedule": schedule, "job": job, "since": since, "age": age,
            "before_at": before and before.at, "before_id": before and before.id,
        }  # fmt: skip
        calls = [session.call("plan_anew"), session.call("list_actions", **values)]
        with session.joining():
            rows = session.retrying(lambda: session.run(calls))[1]
        return [AuditEntry(*row)._replace(details=_object(row[-1])) for row in rows]

    def list_seen(self, job: str, limit: int = 10) -> list[AuditEntry]:
        """The last actions on a job; none if the role may not read them."""
        try:
            return self.list_actions(limit=limit, job=job)
        except PermissionMissing:
            return []  # granted before there was an audit

    def find_action(
        self,
        times: Sequence[datetime],
        actions: Sequence[str],
        *,
        queue: str | None = None,
        task_id: str | None = None,
    ) -> Doer | None:
        """The one that did any of these at one of these times; None too where it may not look."""
        try:
            rows = self._session.retrying(
                lambda: self._session.fetch(
                    "find_action",
                    times=list(times),
                    actions=list(actions),
                    queue=queue,
                    task_id=task_id,
                )
            )
        except PermissionMissing:
            return None  # granted before there was an audit
        return Doer(*rows[0]) if rows else None

    def prune_audit(self, age: float, limit: int) -> int:
        """Delete up to ``limit`` rows older than ``age`` seconds; how many."""
        return int(self._session.fetch("prune_audit", age=age, limit=limit)[0][0])


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
