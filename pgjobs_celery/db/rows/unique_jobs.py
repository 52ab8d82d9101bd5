"""The rows of jobs that must be the only ones of their kind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from ...errors import PgJobsError
from ...job.rows import NewJob
from ...job.states import State
from .. import notify
from .jobs import relaxing, wake_calls

if TYPE_CHECKING:
    from ..connection import Call, Row
    from ..session import Session

#: How often it is tried again when the job in the way has gone before it could be named.
TRIES = 20


class Conflict(NamedTuple):
    """The job that stands in the way of another."""

    task_id: str
    state: State
    #: When the other was sent first, by the monotonic clock, if the answer to that was cut off.
    first: float | None = None


class Guard(NamedTuple):
    """A unique job's key, the states in which it counts, and for how many seconds (None: ever)."""

    key: bytes
    states: Sequence[str]
    period: float | None


class UniqueJobs:
    """Statements on rows with a unique key, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def insert_unique_job(
        self, job: NewJob, guard: Guard, *, may_be_lost: bool = False
    ) -> Conflict | None:
        """Put a job in line, committed when this returns; the other one where there is one.

        That may be the job itself, by its id: published before, or just now by a statement whose
        answer was cut off. ``may_be_lost``: see :meth:`Jobs.insert_new_job`.
        """
        wakes = wake_calls(self._session, job)
        channel = self._session.joined_channel
        insert = [
            *relaxing(self._session, may_be_lost),
            self._session.call("pin_plans"),
            self._call("insert_unique_job", guard, channel=channel, **job._asdict()),
        ]
        sent: list[float] = []

        def send() -> list[list[Row]]:
            sent.append(time.monotonic())
            return self._session.run(insert, *wakes)

        for tries in range(1, TRIES + 1):
            if self._session.retrying(send)[len(insert) - 1]:
                return None
            if holder := self.find_holder(job.task_id, guard):
                return holder._replace(first=sent[0] if len(sent) > tries else None)
        raise PgJobsError(f"jobs of the kind of {job.task_id} come and go too fast to be counted")

    def find_holder(self, task_id: str, guard: Guard) -> Conflict | None:
        """The job that stands in the way of this one."""
        calls = [
            self._session.call("pin_plans"),
            self._call("find_holder", guard, task_id=task_id),
        ]
        rows = self._session.retrying(lambda: self._session.run(calls))[1]
        return Conflict(rows[0][0], State(rows[0][1])) if rows else None

    def take_key(self, task_id: str, guard: Guard) -> None:
        """Have a job that was published again under its id guard its kind, if no other job does."""
        take = [self._call("take_key", guard, task_id=task_id)]
        if self._session.is_joined:
            self._session.run(take)
            return
        # Another job may do so since just now; the rest of the transaction must not suffer.
        with suppress(psycopg.errors.UniqueViolation), self._session.transaction():
            self._session.run(take)

    def replace_job(
        self, job: NewJob, guard: Guard, fields: Sequence[str], latest: float | None = None
    ) -> bool:
        """Have the waiting job of this id take over ``fields``; False if it waits no more.

        ``latest``: its time is not moved to later than so many seconds after it was published or
        last began.
        """
        call = self._call("replace_job", guard, fields=list(fields), latest=latest, **job._asdict())
        rows = self._session.run([call])[0]
        if rows:
            self._session.run(
                [self._session.wake(notify.BACK, rows[0][0])], [self._session.wake(notify.DUE)]
            )
        return bool(rows)

    def insert_duplicate(self, job: NewJob, holder: str, key: bytes | None) -> None:
        """Keep a job that must not run, as cancelled: its publisher looks for its id.

        ``holder`` is the id of the job that stands for it, ``key`` the unique key of both.
        """
        self._session.fetch("insert_duplicate", holder=holder, unique_key=key, **job._asdict())

    def _call(self, name: str, guard: Guard, **values: object) -> Call:
        return self._session.call(
            name, unique_key=guard.key, states=list(guard.states), period=guard.period, **values
        )
