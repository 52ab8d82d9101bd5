"""A scheduler for ``celery beat`` whose schedule is in PostgreSQL: any number of beats, each tick
once.

    celery -A proj beat -S pgjobs
    celery -A proj worker -B --scheduler pgjobs

Each beat looks at the same rows of ``pgjobs.schedules``, and publishes what is due in the
transaction that moves the row on, so that another one that looks then finds it moved. No
beat leads: where one is killed, the others have been doing its work all along.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from celery.schedules import crontab
from celery.utils.log import get_logger

from ..db.database import CONNECTION_ERRORS
from ..db.dsn import describe
from ..db.rows.schedules import NEVER, ScheduleRow
from ..errors import InvalidOption, PgJobsError
from ..job.options import check_text
from ..printable import guard_celery, guarded, one_line
from .clock import read_clock
from .entry import PgEntry, damage_of, to_entry, to_row
from .missed import GRACE, Due, find_due
from .next_tick import next_tick
from .publisher import Outage, TickPublisher, is_lazy

logger = guarded(get_logger(__name__))

#: How often it is looked for entries that were made, changed or deleted, in seconds.
LOOK_INTERVAL = 0.5
#: How long after a lost connection, or a schedule that cannot be computed, it is tried again.
RETRY_INTERVAL = 1.0
#: How long another beat is given that has an entry locked: most likely it is publishing it.
LOCKED_INTERVAL = 0.05
#: How many entries one transaction moves on.
CHUNK = 500
#: The number of jobs after which it ends; one entry may have more.
MOST_JOBS = 2000


class PgScheduler(TickPublisher):
    """Celery's scheduler on the rows of ``pgjobs.schedules``."""

    #: Celery's beat sleeps no longer than this between two looks at its schedule, in seconds.
    max_interval = 5
    #: Seconds after which it restores an entry of its own that another version of the program has
    #: removed, or changed and does not publish: while both run, the one that came last wins.
    takeover_after = 30.0

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        guard_celery()
        self._clock = read_clock(app.conf)  # fail on a misspelt setting before anything is done
        #: The program's own entries, and the names of those that are wrong.
        self._own: dict[str, PgEntry] = {}
        self._wrong: list[str] = []
        self._definitions: dict[str, str] = {}
        #: Own entries whose row is missing or another version's: since when this is known, by the
        #: monotonic clock and by beat's.
        self._estranged: dict[str, tuple[float, datetime]] = {}
        self._rows: dict[str, ScheduleRow] = {}
        #: When an entry is checked next; and the same in order, with outdated times.
        self._due_at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._fingerprint: tuple[int, str] | None = None
        self._is_registered = False
        self._next_look = 0.0
        #: The server's clock, and this process's when it showed that.
        self._server = (datetime.now(timezone.utc), time.monotonic())
        self._logged: set[str] = set()
        #: The reason why beat cannot work at the moment; empty if it can.
        self._lost = ""
        super().__init__(app, *args, **kwargs)
        self._heap = []
        self._verify()

    def _verify(self) -> None:
        """Leave with one line where the tables are not as they have to be.

        What is raised later Celery shows with a traceback; without a server it is waited for.
        """
        database = self.database
        try:
            database.verify()
        except CONNECTION_ERRORS:
            pass
        except PgJobsError as error:
            raise SystemExit(f"{type(error).__name__}: {one_line(str(error))}") from None

    def setup_schedule(self) -> None:
        """Read the program's own entries; an invalid one does not stop beat."""
        given = dict(self.app.conf.beat_schedule)
        self.install_default_entries(given)
        for name, entry in given.items():
            try:
                self.schedule[name] = self.Entry(**dict(entry, name=name, app=self.app))
            except Exception as error:
                logger.error("beat: entry %r is left out: %s", name, error)
                with suppress(InvalidOption):  # a name that no row can have
                    check_text(str(name), "the name of an entry")
                    self._wrong.append(str(name))
        self._own = dict(self.schedule)

    @property
    def info(self) -> str:
        """The lines that ``celery beat`` shows at its start."""
        return f"    . db -> {describe(self.database.conninfo)}"

    def now(self) -> datetime:
        """The time by the server's clock: all beats go by the same."""
        server, monotonic = self._server
        return self._clock.at(server + timedelta(seconds=time.monotonic() - monotonic))

    def _in(self, seconds: float) -> datetime:
        return self.now() + timedelta(seconds=seconds * self._clock.speed)

    def tick(self, *_: Any, **__: Any) -> float:
        """Publish what is due; in how many seconds to ask again."""
        try:
            if time.monotonic() >= self._next_look:
                self._look()
            if due := self._take_due():
                self._publish(due)
                return 0.0
        except (*CONNECTION_ERRORS, Outage) as error:
            if not self._lost:
                self._lost = str(error) or type(error).__name__
                logger.error("beat: cannot publish, and tries again: %s", error)
            self._fingerprint = None  # what was due is looked up again
            self._next_look = 0.0
            return RETRY_INTERVAL
        wait = self._next_look - time.monotonic()
        if self._heap:
            wait = min(wait, self._clock.seconds(self._heap[0][0] - self.now()))
        return min(max(wait, 0.001), self.max_interval)

    def _log_once(self, text: str) -> None:
        """Log an error that stays for a while, once."""
        if text not in self._logged:
            self._logged.add(text)
            logger.error("beat: %s", text)

    # Read the rows

    def _look(self) -> None:
        look = self.rows.look()
        if self._lost:
            self._lost = ""
            logger.info("beat: connected to the database again")
        # As if the answer had taken no time: beat is late by that, but never early.
        self._server = (look.now, time.monotonic())
        if not self._is_registered:
            self._register()
            look = self.rows.look()
        if look.fingerprint != self._fingerprint:
            self._reload()
            self._fingerprint = look.fingerprint
        if self._estranged:
            self._take_over()
        self._next_look = time.monotonic() + LOOK_INTERVAL

    def _register(self) -> None:
        """Write the program's own entries to the table."""
        now = self.now()
        rows = [*self._to_rows((entry, now) for entry in self._own.values())]
        gone = self.rows.register_schedules(rows, keep=[*self._own, *self._wrong])
        if gone:
            logger.info("beat: not in beat_schedule any more: %s", ", ".join(gone))
        self._is_registered = True

    def _to_rows(self, entries: Iterable[tuple[PgEntry, datetime]]) -> Iterator[ScheduleRow]:
        for entry, after in entries:
            try:
                row = to_row(entry, after, is_configured=True)
            except Exception as error:
                self._log_once(f"entry {entry.name!r} cannot be computed: {error!r}")
            else:
                self._definitions[entry.name] = row.definition
                yield row

    def _reload(self) -> None:
        versions = self.rows.list_versions()
        for name in self._rows.keys() - versions.keys():
            del self._rows[name]
            self._due_at.pop(name, None)
            self.schedule.pop(name, None)
        is_fresh = self._fingerprint is None
        if is_fresh:
            self._heap, self._due_at = [], {}
        changed = [
            name
            for name, version in versions.items()
            if is_fresh or name not in self._rows or self._rows[name].version != version
        ]
        if changed:
            for row in self.rows.get_schedules(changed):
                self._take_row(row)
        self._find_estranged()

    def _find_estranged(self) -> None:
        now = (time.monotonic(), self.now())
        self._estranged = {
            name: self._estranged.get(name, now)
            for name in self._own
            if (row := self._rows.get(name)) is None
            or (row.is_configured and row.definition != self._definitions.get(name))
        }

    def _take_over(self) -> None:
        """Restore own entries that no other beat publishes."""
        monotonic, now = time.monotonic(), self.now()
        names = [
            name
            for name, (since, _) in self._estranged.items()
            if monotonic - since >= self.takeover_after
        ]
        if not names:
            return
        rows = {row.name: row for row in self.rows.get_schedules(names)}
        taken = []
        for name in names:
            row, since = rows.get(name), self._estranged[name][1]
            if row is not None and (
                row.is_paused or self._clock.seconds(now - row.next_run_at) < self.takeover_after
            ):
                self._estranged[name] = (monotonic, since)
                continue
            after = max(since, row.last_run_at or since) if row is not None else since
            taken.append((self._own[name], after))
            self._estranged[name] = (monotonic, after)
        self.rows.register_schedules([*self._to_rows(taken)])

    def _take_row(self, row: ScheduleRow) -> None:
        self._rows[row.name] = row
        if damage := damage_of(row):
            what = "is set aside" if row.next_run_at == NEVER else "goes on"
            self._log_once(
                f"entry {row.name!r} {what}: {damage}; `celery -A proj pgjobs schedules repair` "
                "gives it others, `delete` takes it away"
            )
        own = self._own.get(row.name)
        entry: PgEntry | None = None
        if row.is_configured:
            if self._definitions.get(row.name) == row.definition:
                entry = own
        else:
            if own is not None:
                self._log_once(
                    f"entry {row.name!r} was made at run time before it was in beat_schedule, and "
                    "stays as it was made: delete it, or give the new one another name"
                )
            try:
                entry = to_entry(row, self.app)
            except PgJobsError as error:
                self._log_once(str(error))
        if entry is not None and not row.is_paused and row.next_run_at != NEVER:
            self.schedule[row.name] = entry
            self._wait(row.name, row.next_run_at)
        else:
            self._due_at.pop(row.name, None)

    def _wait(self, name: str, at: datetime) -> None:
        """Look at this entry then."""
        self._due_at[name] = at
        heapq.heappush(self._heap, (at, name))
        if len(self._heap) > 2 * len(self._due_at) + CHUNK:
            self._heap = [(at, name) for name, at in self._due_at.items()]
            heapq.heapify(self._heap)

    # Publish

    def _take_due(self) -> list[ScheduleRow]:
        """The entries that are due, up to a chunk."""
        now = self.now()
        due: list[ScheduleRow] = []
        chunk = CHUNK if self.is_atomic else 1
        while self._heap and self._heap[0][0] <= now and len(due) < chunk:
            at, name = heapq.heappop(self._heap)
            if self._due_at.get(name) == at:
                del self._due_at[name]
                due.append(self._rows[name])
        return due

    def _publish(self, rows: Sequence[ScheduleRow]) -> None:
        """Publish what is due of these, unless another beat does; then know where they are."""
        now = self.now()
        found: dict[str, Due] = {}
        together: list[ScheduleRow] = []
        alone: list[ScheduleRow] = []
        for row in rows:
            try:
                found[row.name] = self._find_due(row, now)
            except Exception as error:
                self._log_once(f"entry {row.name!r} cannot be computed: {error!r}")
                self._wait(row.name, self._in(RETRY_INTERVAL))
            else:
                (alone if is_lazy(self.schedule[row.name]) else together).append(row)
        count = 0
        begun = 0
        for number, row in enumerate(together, 1):
            count += len(found[row.name].ticks)
            if count >= MOST_JOBS or number == len(together):
                self._publish_found(together[begun:number], found)
                begun, count = number, 0
        for row in alone:
            self._publish_found([row], found)

    def _find_due(self, row: ScheduleRow, now: datetime) -> Due:
        schedule = self.schedule[row.name].schedule
        return find_due(
            row.next_run_at,
            now,
            lambda after: next_tick(schedule, after),
            row.missed,
            row.missed_limit,
            grace=GRACE * self._clock.speed,
            deadline=self.app.conf.beat_cron_starting_deadline
            if isinstance(schedule, crontab)
            else None,
        )

    def _publish_found(self, rows: Sequence[ScheduleRow], found: Mapping[str, Due]) -> None:
        if not rows:
            return
        try:
            ours, failed = self.publish_ticks(rows, found)
        except (*CONNECTION_ERRORS, Outage):
            raise
        except Exception as error:
            ours, failed = set(), {}
            if len(rows) == 1:
                failed = {rows[0].name: error}
            else:
                # The database has refused one of them, and with it all: which one, it does not say.
                for row in rows:
                    self._publish_found([row], found)
                return
        if failed:
            lost = [row for row in rows if row.name in failed]
            rest = [row for row in rows if row.name not in failed]
            for name, reason in failed.items():
                logger.error("beat: a tick of entry %r is lost: %s", name, reason)
            self._publish_found(rest, found)
            rows = lost
            with self.rows.publishing():
                ours = self.rows.advance_schedules(self.to_advances(lost, found, is_lost=True))
        for row in rows:
            if row.name in ours:
                self._rows[row.name] = replace(row, next_run_at=found[row.name].next)
                self._wait(row.name, found[row.name].next)
        self._ask_again([row for row in rows if row.name not in ours])

    def _ask_again(self, rows: Sequence[ScheduleRow]) -> None:
        """Another beat has moved these on, or is about to."""
        if not rows:
            return
        for row in self.rows.get_schedules([row.name for row in rows]):
            self._take_row(row)
            if self._due_at.get(row.name, self.now()) < self.now():
                self._wait(row.name, self._in(LOCKED_INTERVAL))
