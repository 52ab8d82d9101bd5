"""A scheduler for ``celery beat`` whose schedule is in PostgreSQL: any number of beats, each tick
once.

    celery -A proj beat -S pgjobs
    celery -A proj worker -B -S pgjobs

Each beat looks at the same rows of ``pgjobs.schedules``, and publishes what is due in the
transaction that moves the row on, so that another one that looks then finds it moved. No
beat leads: where one is killed, the others have been doing its work all along.
"""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from celery.beat import ScheduleEntry, Scheduler
from celery.utils.log import get_logger
from kombu.utils.json import dumps, loads

from .batch import bulk
from .config import read_settings
from .db.database import CONNECTION_ERRORS
from .db.schedules import Advance, ScheduleRow, Schedules
from .errors import InvalidOption, PgJobsError
from .options import HEADER
from .selection import database_of
from .ticks import MISSED, ONCE, Due, find_due
from .timetable import digest, from_spec, next_tick, to_schedule, to_spec

if TYPE_CHECKING:
    from celery.schedules import BaseSchedule

logger = get_logger(__name__)

#: How often it is looked for entries that were made, changed or deleted, in seconds.
LOOK_INTERVAL = 0.5
#: How long after a lost connection, or a schedule that cannot be computed, it is tried again.
RETRY_INTERVAL = 1.0
#: How many entries one transaction moves on.
CHUNK = 500
#: In which an entry, and a tick, give a task id.
NAMESPACE = UUID("4f1dbd7c-6c1e-5d0a-9a55-0f3f0b6c2f5e")


class PgEntry(ScheduleEntry):  # type: ignore[misc]
    """Celery's entry, which also knows what becomes of ticks that were missed."""

    #: ``"once"``, ``"skip"`` or ``"all"``; see :func:`pgjobs_celery.ticks.find_due`.
    missed = ONCE
    #: How many of them ``"all"`` publishes at most.
    missed_limit = 100

    def __init__(
        self,
        *args: Any,
        schedule: Any = None,
        missed: str = ONCE,
        missed_limit: int = 100,
        relative: bool = False,
        app: Any = None,
        **kwargs: Any,
    ) -> None:
        schedule = to_schedule(schedule, relative=relative, app=app)
        super().__init__(*args, schedule=schedule, relative=relative, app=app, **kwargs)
        if missed not in MISSED:
            raise InvalidOption(
                f"entry {self.name!r}: missed must be 'once', 'skip' or 'all', not {missed!r}"
            )
        if isinstance(missed_limit, bool) or not isinstance(missed_limit, int) or missed_limit < 1:
            raise InvalidOption(
                f"entry {self.name!r}: missed_limit must be a whole number from 1, "
                f"not {missed_limit!r}"
            )
        self.missed, self.missed_limit = missed, missed_limit


def to_row(entry: PgEntry, now: datetime, *, is_configured: bool) -> ScheduleRow:
    """An entry as its row has it; its first tick is the first after ``now``."""
    spec = to_spec(entry.schedule)
    return ScheduleRow(
        name=entry.name,
        is_configured=is_configured,
        task=entry.task,
        args=_json(list(entry.args or ())) if isinstance(entry.args, Iterable) else None,
        kwargs=_json(entry.kwargs),
        options=_json(entry.options),
        schedule=json.dumps(spec),
        definition=digest(spec),
        missed=entry.missed,
        missed_limit=entry.missed_limit,
        next_run_at=next_tick(entry.schedule, now),
    )


def to_entry(row: ScheduleRow, app: Any) -> PgEntry:
    """An entry that was made at run time. Raises PgJobsError for a row that is none."""
    try:
        schedule = from_spec(json.loads(row.schedule), app)
        return PgEntry(
            name=row.name,
            task=row.task,
            schedule=schedule,
            args=loads(row.args or "[]"),
            kwargs=loads(row.kwargs or "{}"),
            options=loads(row.options or "{}"),
            missed=row.missed,
            missed_limit=row.missed_limit,
            app=app,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PgJobsError(f"the row of entry {row.name!r} cannot be read: {error!r}") from error


def _json(value: Any) -> str | None:
    """As JSON, for people and for beats of other programs; None for what only this one knows."""
    try:
        return str(dumps(value))
    except (TypeError, ValueError):
        return None


class PgScheduler(Scheduler):  # type: ignore[misc]
    """Celery's scheduler on the rows of ``pgjobs.schedules``."""

    Entry = PgEntry

    #: Celery's beat sleeps no longer than this between two looks at its schedule, in seconds.
    max_interval = 5

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        read_settings(app.conf)  # a misspelt one is said before anything is published
        self._rows: dict[str, ScheduleRow] = {}
        #: The ticks to come, and the entries' names; also some that an entry has left behind.
        self._ticks: list[tuple[datetime, str]] = []
        self._fingerprint: tuple[int, int] | None = None
        self._is_registered = False
        self._next_look = 0.0
        #: The server's clock less this machine's, which may be off.
        self._clock = (datetime.now(timezone.utc), time.monotonic())
        self._warned: set[str] = set()
        super().__init__(app, *args, **kwargs)

    @property
    def rows(self) -> Schedules:
        """The rows of the app's entries."""
        return Schedules(database_of(self.app), self.app.main or "")

    @property
    def info(self) -> str:
        """What ``celery beat`` shows of it at its start."""
        return f"    . db -> {database_of(self.app)}"

    def now(self) -> datetime:
        """The time by the server's clock: all beats go by the same."""
        at, monotonic = self._clock
        return at + timedelta(seconds=time.monotonic() - monotonic)

    def tick(self, *_: Any, **__: Any) -> float:
        """Publish what is due; in how many seconds to ask again."""
        try:
            if time.monotonic() >= self._next_look:
                self._look()
            due = self._take_due()
            if due:
                self._publish(due)
                return 0.0
        except CONNECTION_ERRORS as error:
            logger.error("beat: the connection was lost, trying again: %s", error)
            self._fingerprint = None  # what was due is looked up again
            self._next_look = 0.0
            return RETRY_INTERVAL
        wait = self._next_look - time.monotonic()
        if self._ticks:
            wait = min(wait, (self._ticks[0][0] - self.now()).total_seconds())
        return min(max(wait, 0.001), self.max_interval)

    # Know what there is

    def _look(self) -> None:
        begun = time.monotonic()
        look = self.rows.look()
        # Asked in the middle of the round trip, as far as anybody can tell.
        self._clock = (look.now, (begun + time.monotonic()) / 2)
        if not self._is_registered:
            self._register()
            look = self.rows.look()
        if look.fingerprint != self._fingerprint:
            self._reload()
            self._fingerprint = look.fingerprint
        self._next_look = time.monotonic() + LOOK_INTERVAL

    def _register(self) -> None:
        """Have the program's own entries be in the table as they are here."""
        now = self.now()
        rows = []
        for entry in self.schedule.values():
            try:
                rows.append(to_row(entry, now, is_configured=True))
            except Exception as error:  # one that cannot be computed is no reason to stop
                logger.error("beat: entry %r is never due: %s", entry.name, error)
        known = self.rows.register_schedules(rows)
        for row in rows:
            if row.name not in known:
                logger.error(
                    "beat: entry %r was made at run time before it was in beat_schedule, and stays "
                    "as it was made: delete it, or give the new one another name", row.name,
                )  # fmt: skip
        self._is_registered = True

    def _reload(self) -> None:
        versions = self.rows.list_versions()
        for name in self._rows.keys() - versions.keys():
            del self._rows[name]
        is_fresh = self._fingerprint is None
        changed = [
            name
            for name, version in versions.items()
            if is_fresh or name not in self._rows or self._rows[name].version != version
        ]
        if changed:
            self._take_rows(self.rows.get_schedules(changed))

    def _take_rows(self, rows: Iterable[ScheduleRow]) -> None:
        for row in rows:
            self._rows[row.name] = row
            if row.is_configured:
                own = self.schedule.get(row.name)
                is_ours = own is not None and digest(to_spec(own.schedule)) == row.definition
            else:
                try:
                    self.schedule[row.name] = to_entry(row, self.app)
                    is_ours = True
                except PgJobsError as error:
                    self._warn(row.name, str(error))
                    is_ours = False
            if is_ours and row.paused_at is None:
                heapq.heappush(self._ticks, (row.next_run_at, row.name))

    def _warn(self, name: str, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.error("beat: %s", text)

    # Publish

    def _take_due(self) -> list[ScheduleRow]:
        """The entries that are due, up to a chunk."""
        now = self.now()
        due: dict[str, ScheduleRow] = {}
        while self._ticks and self._ticks[0][0] <= now and len(due) < CHUNK:
            at, name = heapq.heappop(self._ticks)
            row = self._rows.get(name)
            if row is not None and row.next_run_at == at and row.paused_at is None:
                due[name] = row
        return list(due.values())

    def _publish(self, rows: Sequence[ScheduleRow]) -> None:
        """Publish what is due of these, unless another beat does; then know where they are."""
        try:
            self._publish_together(rows)
        except CONNECTION_ERRORS:
            raise
        except Exception as error:
            if len(rows) > 1:
                for row in rows:
                    self._publish([row])
                return
            logger.exception("beat: the tick of entry %r is lost: %s", rows[0].name, error)
            self._publish_together(rows, is_lost=True)
        self._take_rows(self.rows.get_schedules([row.name for row in rows]))

    def _publish_together(self, rows: Sequence[ScheduleRow], *, is_lost: bool = False) -> None:
        now = self.now()
        found: dict[str, Due] = {}
        for row in rows:
            try:
                found[row.name] = self._find_due(row, now)
            except Exception as error:
                self._warn(row.name, f"entry {row.name!r} cannot be computed: {error!r}")
        advances = []
        for row in rows:
            if row.name not in found:
                continue
            due = found[row.name]
            ticks = [] if is_lost else due.ticks
            last = ticks[-1] if ticks else None
            advances.append(
                Advance(
                    row.name,
                    row.definition,
                    row.next_run_at,
                    due.next,
                    last,
                    self.task_id(row.name, last) if last else None,
                    len(ticks),
                )
            )
        with self.rows.publishing():
            ours = self.rows.advance_schedules(advances)
            if is_lost:
                return
            with bulk():
                for name in ours:
                    for at in found[name].ticks:
                        self._publish_tick(self.schedule[name], at)

    def _find_due(self, row: ScheduleRow, now: datetime) -> Due:
        schedule: BaseSchedule = self.schedule[row.name].schedule
        return find_due(
            row.next_run_at,
            now,
            lambda after: next_tick(schedule, after),
            row.missed,
            row.missed_limit,
        )

    def _publish_tick(self, entry: PgEntry, at: datetime) -> None:
        logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        sent = self.Entry(**_fields(entry), options=self._options(entry, at))
        self.apply_async(sent, advance=False)

    def _options(self, entry: PgEntry, at: datetime) -> dict[str, Any]:
        """The entry's options, with what a job knows of it."""
        options = dict(entry.options or {})
        headers = dict(options.get("headers") or {})
        ours = dict(headers.get(HEADER) or {})
        known = {"schedule": entry.name, "tick": at.isoformat()}
        ours["meta"] = {**(ours.get("meta") or {}), **known}
        options["headers"] = {**headers, HEADER: ours}
        options.setdefault("task_id", self.task_id(entry.name, at))
        return options

    def task_id(self, name: str, at: datetime) -> str:
        """The id of the job of a tick: the same from whichever beat."""
        return str(uuid5(NAMESPACE, json.dumps([self.app.main, name, at.isoformat()])))


def _fields(entry: PgEntry) -> dict[str, Any]:
    names = ("name", "task", "args", "kwargs", "schedule", "app", "missed", "missed_limit")
    return {name: getattr(entry, name) for name in names}
