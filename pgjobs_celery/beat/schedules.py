"""``schedules(app)``: the entries that beat publishes; made, changed, paused and run by hand."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid4

from ..control.acting import begin_action
from ..control.app import database_of
from ..control.filters import text
from ..db.database import Database
from ..db.rows.audit import Action
from ..db.rows.schedules import ScheduleRow, ScheduleRows
from ..errors import ConfiguredEntry, InvalidOption, PgJobsError
from ..printable import guarded
from ..publishing.batch import take_part
from ..publishing.bulk import bulk
from .clock import read_clock
from .definition import EntrySpec, read_entry
from .entry import to_entry, to_row
from .missed import ONCE
from .next_tick import next_tick
from .run import publish_entry, read_published
from .schedule import Schedule, find_own, find_schedule, to_handle, unknown_task

logger = guarded(logging.getLogger(__name__))

T = TypeVar("T")


class Schedules:
    """The entries of an app. Every beat knows of a change within a second.

    Those of the program's ``beat_schedule`` are here once a beat has started. They can be paused,
    resumed and run; other changes belong into the program, and raise ConfiguredEntry. Within
    :func:`pgjobs_celery.using` a change is part of the caller's transaction.
    """

    def __init__(self, app: Any, database: Database | None = None) -> None:
        self.app = app
        #: Where they are: in the broker's database, unless another is given.
        self.database = database or database_of(app)
        self._rows = ScheduleRows(self.database, app.main or "")

    def __iter__(self) -> Iterator[Schedule]:
        """All of them, by name."""
        rows = self._run(self._rows.get_schedules)
        return iter([to_handle(row, self.app) for row in rows])

    def names(self) -> list[str]:
        """The names of all, in order: of 10,000 they take no longer than an entry."""
        return sorted(self._run(self._rows.list_versions))

    def select(self, names: Sequence[str]) -> list[Schedule]:
        """The entries of these names, by name; those that do not exist are left out."""
        names = [_text(name) for name in names]
        rows = self._run(lambda: self._rows.get_schedules(names))
        return [to_handle(row, self.app) for row in rows]

    def get(self, name: str) -> Schedule | None:
        """The entry of this name; None if it does not exist."""
        row = self.find_row(name)
        return None if row is None else to_handle(row, self.app)

    def put(
        self,
        name: str,
        task: Any,
        schedule: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        missed: str = ONCE,
        missed_limit: int = 100,
        next_run_at: datetime | None = None,
        **options: Any,
    ) -> Schedule:
        """Create or replace an entry.

        ``task`` is a task, its name or a signature; ``schedule`` is a number of seconds, a
        timedelta, a cron expression, ``crontab()``, :func:`pgjobs_celery.cron` or ``solar()``;
        ``options`` are those of ``apply_async``. It is due first at ``next_run_at`` or, without
        that, at the schedule's next tick. A known next tick stays as long as the schedule does, and
        so does a pause.

        Raises InvalidOption for a value that cannot be used or that JSON cannot hold, UnknownOption
        for an unknown name, ConfiguredEntry for the name of one of the program's.
        """
        spec = EntrySpec(name, task, schedule, args, kwargs, missed, missed_limit, options)
        return self._write(spec, next_run_at, replaces=True)

    def add(
        self,
        name: str,
        task: Any,
        schedule: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        missed: str = ONCE,
        missed_limit: int = 100,
        next_run_at: datetime | None = None,
        **options: Any,
    ) -> Schedule:
        """As :meth:`put`, of a name that is not taken: raises InvalidOption if it is."""
        spec = EntrySpec(name, task, schedule, args, kwargs, missed, missed_limit, options)
        return self._write(spec, next_run_at, replaces=False)

    def pause(self, name: str) -> bool:
        """Stop publishing its ticks; False if the entry does not exist."""
        name = _text(name)
        action = self._begin("pause_schedule", name)
        return self._run(lambda: self._rows.pause_schedule(name, action))

    def resume(self, name: str) -> bool:
        """Go on with the tick that comes next, by the server's clock; False if it is not paused.

        Ticks that were not published meanwhile do not count as missed.
        """
        row = self.find_row(name)
        if row is None or not row.is_paused:
            return False
        with self.database.joining():
            due = self._next_tick(row, "resume")
            return self._rows.resume_schedule(name, due, self._begin("resume_schedule", name))

    def repair(self, name: str) -> bool:
        """Replace times of its row that cannot be read; False if the entry does not exist.

        Its next tick is the schedule's, and a paused entry stays paused. Raises PgJobsError if the
        rest of it cannot be read: put it anew, or delete it.
        """
        row = self.find_row(name)
        if row is None:
            return False
        if not row.is_configured:
            to_entry(row, self.app)
        with self.database.joining():
            due = self._next_tick(row, "repair")
            return self._rows.repair_schedule(name, due, self._begin("repair_schedule", name))

    def run(self, name: str) -> Any:
        """Publish it now, paused or not; the handle on its result, None if it does not exist.

        Its ticks are unchanged. The job's meta has ``schedule`` and ``by_hand``.
        """
        row = self.find_row(name)
        if row is None:
            return None
        args, kwargs, options = read_published(row, self.app)
        # An id that is given here belongs to a row in any case, even for a duplicate.
        options = {"task_id": str(uuid4()), **options}
        known = {"schedule": name, "by_hand": True}
        with bulk():  # one transaction, ours or the caller's
            result = publish_entry(self.app, row.task, args, kwargs, options, known)
            action = self._begin("run_schedule", name)
            take_part(self.database, lambda: self._record(name, result.id, action))
        return result

    def delete(self, name: str) -> bool:
        """Delete it; False if it does not exist. The jobs that it has published stay."""
        name = _text(name)
        action = self._begin("delete_schedule", name)
        if self._run(lambda: self._rows.delete_schedule(name, action)):
            return True
        row = self.find_row(name)
        if row is not None and row.is_configured:
            raise _configured(name)
        return False

    # For importers of many entries

    def now(self) -> datetime:
        """The time that beats use: the server's, or one derived from it for a rehearsal."""
        return read_clock(self.app.conf).at(self._rows.look().now)

    def find_row(self, name: str) -> ScheduleRow | None:
        """The row of an entry; None if it does not exist."""
        name = _text(name)
        return next(iter(self._run(lambda: self._rows.get_schedules([name]))), None)

    def put_row(self, row: ScheduleRow, *, replaces: bool = True, moves: bool = False) -> None:
        """Write an entry that was read; ``moves`` its next tick although its schedule stays.

        Raises ConfiguredEntry and, for an existing entry unless it ``replaces``, InvalidOption.
        """
        if row.name in self.app.conf.beat_schedule:
            raise _configured(row.name)
        details = {"task": row.task, "schedule": json.loads(row.schedule)}
        action = self._begin("put_schedule" if replaces else "add_schedule", row.name, **details)
        if self._rows.put_schedule(row, replaces=replaces, moves=moves, action=action):
            return
        found = self.find_row(row.name)
        if found is not None and found.is_configured:
            raise _configured(row.name)
        raise InvalidOption(
            f"there is an entry {row.name!r} already: put() changes it, or --replace"
        )

    def _write(self, spec: EntrySpec, next_run_at: datetime | None, *, replaces: bool) -> Schedule:
        entry = read_entry(self.app, spec)
        if unknown := unknown_task(self.app, entry.task):
            logger.warning("entry %r is published all the same: %s", spec.name, unknown)
        with self.database.joining():
            row = to_row(entry, self.now(), is_configured=False)
            if next_run_at is not None:
                row = replace(row, next_run_at=self._moment(next_run_at))
            self.put_row(row, replaces=replaces, moves=next_run_at is not None)
            (there,) = self._rows.get_schedules([entry.name])
        return to_handle(there, self.app)

    def _next_tick(self, row: ScheduleRow, verb: str) -> datetime:
        """When it is due next. Raises PgJobsError if that cannot be known here."""
        schedule = find_schedule(row, self.app)
        if schedule is None:
            own = find_own(self.app, row.name) if row.is_configured else None
            if own is None:
                raise PgJobsError(
                    f"the schedule of entry {row.name!r} cannot be read here: {verb} it in the "
                    f"program that has it in its beat_schedule ({row.schedule})"
                )
            schedule = own.schedule
        return next_tick(schedule, self.now())

    def _run(self, work: Callable[[], T]) -> T:
        """Run in the caller's transaction, if any; otherwise retry after a lost connection."""
        with self.database.joining():
            return self.database.retrying(work)

    def _moment(self, at: Any) -> datetime:
        if not isinstance(at, datetime):
            raise InvalidOption(f"next_run_at must be a datetime, not {at!r}")
        return at if at.tzinfo else at.replace(tzinfo=self.app.timezone)

    def _record(self, name: str, task_id: str, action: Action) -> None:
        self._rows.record_run(name, task_id, action)

    def _begin(self, action: str, name: str, **details: Any) -> Action:
        app = self.app.main or ""
        return begin_action(action, self.app, app=app, schedule=name, details=details)


def schedules(app: Any) -> Schedules:
    """The entries of a Celery app: in the database of its broker, or else of its result backend.

    Raises PgJobsError if neither is one of ours.

    >>> schedules(app).put("report", "proj.report", cron("0 2 * * *", tz="Europe/Berlin"))
    >>> schedules(app).run("report")
    """
    return Schedules(app)


def _text(name: Any) -> str:
    return text("name", name)


def _configured(name: str) -> ConfiguredEntry:
    return ConfiguredEntry(
        f"entry {name!r} is one of the program's beat_schedule: change it there, or take it out; "
        "here it can be paused, resumed and run"
    )
