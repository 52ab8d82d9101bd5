"""Publish the ticks of entries: their jobs and their rows in one transaction. For beat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

from celery.beat import BeatLazyFunc, Scheduler

from ..control.app import database_of
from ..db.database import CONNECTION_ERRORS, Database
from ..db.rows.schedules import Advance, ScheduleRow, ScheduleRows
from ..publishing.bulk import bulk
from .entry import PgEntry
from .missed import Due
from .run import noted

#: The namespace of task ids that are made of an entry and a tick.
NAMESPACE = UUID("4f1dbd7c-6c1e-5d0a-9a55-0f3f0b6c2f5e")


class Outage(Exception):
    """The broker cannot be reached."""


class _TakenBack(Exception):
    """Rolls back a transaction whose work must not take effect."""


class TickPublisher(Scheduler):
    """The part of the scheduler that publishes."""

    Entry = PgEntry

    #: The error of the last job that could not be published.
    _failure: Exception | None = None

    @cached_property
    def database(self) -> Database:
        """Where the rows are."""
        return database_of(self.app)

    @property
    def rows(self) -> ScheduleRows:
        """The rows of the app's entries."""
        return ScheduleRows(self.database, self.app.main or "")

    @cached_property
    def is_atomic(self) -> bool:
        """True where the jobs are put where the rows are, so that one transaction does both."""
        if self.app.conf.task_always_eager:
            return False  # the task is run instead, and that cannot be taken back
        transport = self.app.connection_for_write().transport
        return getattr(transport, "database", None) is self.database

    def publish_ticks(
        self, rows: Sequence[ScheduleRow], found: Mapping[str, Due]
    ) -> tuple[set[str], dict[str, Exception]]:
        """The names that this beat has published; or, with nothing done, the ones that fail."""
        failed: dict[str, Exception] = {}
        try:
            with self._transaction(rows) as producer:
                ours = self.rows.advance_schedules(self.to_advances(rows, found))
                ticks = [(name, at) for name in sorted(ours) for at in found[name].ticks]
                there = self.rows.find_ticks([self.task_id(*tick) for tick in ticks])
                with bulk():
                    for name, at in ticks:
                        if self.task_id(name, at) in there:
                            continue  # by an entry of this name that was deleted since
                        try:
                            self._publish_tick(self.schedule[name], at, producer)
                        except Exception as error:
                            self._check_outage(error)
                            failed[name] = error
                if failed:
                    raise _TakenBack
        except _TakenBack:
            return set(), failed
        return ours, failed

    @contextmanager
    def _transaction(self, rows: Sequence[ScheduleRow]) -> Iterator[Any]:
        """One for entries and jobs, with the producer of these."""
        with (
            self.app.producer_or_acquire() as producer,
            self.rows.publishing(asks_others=self._asks_others(rows)),
        ):
            yield producer

    def _asks_others(self, rows: Sequence[ScheduleRow]) -> bool:
        return not self.is_atomic or any(is_lazy(self.schedule[row.name]) for row in rows)

    def to_advances(
        self, rows: Sequence[ScheduleRow], found: Mapping[str, Due], *, is_lost: bool = False
    ) -> list[Advance]:
        """The new next tick of each row, whether its due ticks were published or lost."""
        advances = []
        for row in rows:
            due = found[row.name]
            ticks = [] if is_lost else due.ticks
            last = ticks[-1] if ticks else None
            advances.append(
                Advance(
                    row.name,
                    row.version,
                    row.next_run_at,
                    due.next,
                    last,
                    self.task_id(row.name, last) if last else None,
                    len(ticks),
                )
            )
        return advances

    def _check_outage(self, error: Exception) -> None:
        """Raise if it is not this entry's fault: then the others must wait as well.

        The error does not tell, because an entry may ask other servers for its arguments.
        """
        if not self.is_atomic:
            try:
                with self.app.connection_for_write() as connection:
                    connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            except Exception:
                raise Outage(str(error)) from error
        try:
            self.rows.look()
        except CONNECTION_ERRORS:
            raise
        except Exception:
            raise error from None  # the database has refused something, and with it all the rest

    def _publish_tick(self, entry: PgEntry, at: datetime, producer: Any) -> None:
        """Publish one job."""
        sent = self.Entry(**_fields(entry), options=self._options(entry, at))
        self._failure = None
        # Which others wrap: Sentry, for its cron monitors.
        self.apply_entry(sent, producer=producer)
        if self._failure is not None:
            raise self._failure

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kw: Any) -> Any:
        """As Celery's, which only logs a failure to publish."""
        try:
            return super().apply_async(entry, producer=producer, advance=advance, **kw)
        except Exception as error:
            self._failure = error
            raise

    def _options(self, entry: PgEntry, at: datetime) -> dict[str, Any]:
        """The entry's options, with what a job knows of it."""
        known = {"schedule": entry.name, "tick": at.isoformat()}
        options = noted(self.app, entry.task, entry.options, known)
        options.setdefault("task_id", self.task_id(entry.name, at))
        return options

    def task_id(self, name: str, at: datetime) -> str:
        """The id of the job of a tick: the same from whichever beat."""
        return str(uuid5(NAMESPACE, json.dumps([self.app.main, name, at.isoformat()])))


def is_lazy(entry: PgEntry) -> bool:
    """True where arguments are computed for each job, which may take a while."""
    return any(isinstance(value, BeatLazyFunc) for value in (*entry.args, *entry.kwargs.values()))


def _fields(entry: PgEntry) -> dict[str, Any]:
    names = ("name", "task", "args", "kwargs", "schedule", "app", "missed", "missed_limit")
    return {name: getattr(entry, name) for name in names}
