"""Take over the entries of django-celery-beat: what each becomes here, or why it does not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from uuid import UUID, uuid5

from celery.schedules import BaseSchedule, crontab, schedule, solar
from kombu.utils.json import loads

from ..control.jobs import jobs
from ..db.rows.django_celery_beat import DjangoEntry
from ..db.rows.schedules import ScheduleRow
from ..errors import PgJobsError
from ..job.states import State
from .cron import cron
from .cron_times import next_change
from .definition import EntrySpec, read_entry
from .entry import PgEntry, to_row
from .next_tick import next_tick
from .run import publish_entry
from .schedule import unknown_task
from .schedules import Schedules
from .spec import to_expression

#: In which the name of an entry gives the id of a job that runs once.
NAMESPACE = UUID("0c0d5b1e-6a3f-5b43-9c7e-2f6f1d1b8a57")
#: Names of UTC: a crontab in one of them is in the time zone of an app in another.
UTC = frozenset(
    {"UTC", "Etc/UTC", "Etc/UCT", "UCT", "Universal", "Etc/Universal", "Zulu", "Etc/Zulu"}
)
#: In which clocks change, if they do.
YEAR = timedelta(days=366)
#: Its names for a job's options.
OPTIONS = ("queue", "exchange", "routing_key", "priority")

#: The actions on an entry.
ADDED, CHANGED, UNCHANGED = "added", "changed", "unchanged"
PUBLISHED, NOT_NEEDED, LEFT_OUT = "published", "not needed", "left out"


@dataclass(frozen=True)
class Imported:
    """The outcome of one entry's import."""

    name: str
    #: ``added``, ``changed``, ``unchanged``: an entry here; ``published``: a job that runs once;
    #: ``not needed``, ``left out``: nothing, and the first note says why.
    action: str
    #: Differences to the original.
    notes: list[str] = field(default_factory=list)


class _No(Exception):
    """It becomes nothing."""

    def __init__(self, why: str, action: str = LEFT_OUT) -> None:
        super().__init__(why)
        self.action = action


def import_entries(
    control: Schedules, entries: Iterable[DjangoEntry], *, dry_run: bool = False
) -> Iterator[Imported]:
    """Import each entry as it is there; a ``dry_run`` writes nothing.

    What was taken over before is brought up to date, and its next tick stays.
    """
    now = control.now()
    for entry in entries:
        try:
            yield _import(control, entry, now, dry_run=dry_run)
        except _No as no:
            yield Imported(entry.name, no.action, [str(no)])
        except PgJobsError as error:
            yield Imported(entry.name, LEFT_OUT, [str(error)])
        except (ArithmeticError, TypeError, ValueError) as error:  # a time at the end of all
            yield Imported(entry.name, LEFT_OUT, [f"it cannot be computed: {error}"])


def _import(control: Schedules, entry: DjangoEntry, now: datetime, *, dry_run: bool) -> Imported:
    app = control.app
    _check_needed(control, entry, dry_run=dry_run)
    notes = _check_times(entry)
    at = None if entry.clocked_time is None else _aware(entry.clocked_time, app.timezone)
    schedule = None if at else _schedule(app, entry, notes)
    # read_entry() checks what both kinds have; an interval stands for the moment of a clocked one.
    spec = EntrySpec(
        name=entry.name,
        task=entry.columns["task"],
        schedule=schedule or 60,
        args=_loaded(entry, "args", list),
        kwargs=_loaded(entry, "kwargs", dict),
        options=_options(app, entry, now, notes),
    )
    read = read_entry(app, spec)
    if unknown := unknown_task(app, read.task):
        notes.append(unknown)
    if at is None and schedule is not None:
        at = _first(app, entry, schedule, now)
        if not entry.columns.get("one_off"):
            return _put(control, entry, _row(read, at, now), notes, dry_run=dry_run)
    assert at is not None
    return _publish(control, entry, read, at, now, notes, dry_run=dry_run)


def _row(read: PgEntry, at: datetime, now: datetime) -> ScheduleRow:
    """The row of an entry that is due first at a moment that was told."""
    return replace(to_row(read, now, is_configured=False), next_run_at=at)


def _check_needed(control: Schedules, entry: DjangoEntry, *, dry_run: bool) -> None:
    """Raise for what is here already: django-celery-beat has copied it from the program."""
    if entry.columns["task"] == "celery.backend_cleanup":
        raise _No("the workers delete what has expired", NOT_NEEDED)
    if entry.name not in control.app.conf.beat_schedule:
        return
    here = control.find_row(entry.name)
    if entry.columns["enabled"] or (here is not None and here.is_paused):
        raise _No("is in beat_schedule: beat takes it from there", NOT_NEEDED)
    if here is None:
        raise _No("is in beat_schedule, and disabled there: pause it once a beat has started here")
    if not dry_run:
        control.pause(entry.name)
    raise _No("is in beat_schedule, and paused as it is there", CHANGED)


def _check_times(entry: DjangoEntry) -> list[str]:
    """Notes on times that cannot be read; raises for one without which nothing goes."""
    notes = []
    for name, written in sorted(entry.unreadable.items()):
        if name in ("clocked_time", "start_time") and not written.startswith("-"):
            raise _No(f"its {name} is {written}")
        # An entry that never expires, and has always begun, needs no note.
        if name == "last_run_at" or (name == "expires" and written.startswith("-")):
            notes.append(f"its {name} is {written}, and is not taken over")
    return notes


# Read an entry


def _schedule(app: Any, entry: DjangoEntry, notes: list[str]) -> BaseSchedule:
    try:
        if entry.interval is not None:
            every, period = entry.interval["every"], entry.interval["period"]
            return schedule(timedelta(**{period: every}), app=app)
        if entry.solar is not None:
            place = (float(entry.solar["latitude"]), float(entry.solar["longitude"]))
            return solar(entry.solar["event"], *place, app=app)
        if entry.crontab is not None:
            return _crontab(app, entry.crontab, notes)
    except _No:
        raise
    except Exception as error:  # Celery's classes have several for what they do not take
        raise _No(f"its schedule cannot be made: {' '.join(str(error).split())}") from error
    raise _No("it has no schedule")


def _crontab(app: Any, columns: dict[str, Any], notes: list[str]) -> BaseSchedule:
    """Celery's crontab where its time zone is the app's; else a cron() that is due as it is."""
    names = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
    given = crontab(**{name: str(columns[name]).replace(" ", "") for name in names}, app=app)
    zone, own = str(columns.get("timezone") or "UTC"), str(app.timezone)
    if zone == own or {zone, own} <= UTC:
        return given
    expression = to_expression(given)
    if expression is None:
        raise _No(
            f"its crontab is in {zone}, the app in {own}, and it is due on days that are both such "
            "a day of the month and such a day of the week, for which cron() has no word: make an "
            "entry for a task that looks at the day itself"
        )
    made = cron(expression, zone, app=app)
    now = datetime.now(timezone.utc)
    notes.append(
        f"a cron() in {zone}: when the clocks change it is due once for each time that it names, "
        "and in both of two repeated hours if it is due every hour"
        if next_change(now, now + YEAR, made.tz)
        else f"a cron() in {zone}"
    )
    return made


def _loaded(entry: DjangoEntry, name: str, kind: type) -> Any:
    """The value of a JSON column, which may be invalid."""
    written = entry.columns.get(name) or json.dumps(kind())
    try:
        value = loads(written)
    except (ValueError, TypeError, RecursionError) as error:
        raise _No(f"its {name} are not JSON: {error}") from None
    if not isinstance(value, kind):
        raise _No(f"its {name} must be a {kind.__name__}, not {written!r}")
    return value


def _options(app: Any, entry: DjangoEntry, now: datetime, notes: list[str]) -> dict[str, Any]:
    options = {name: entry.columns[name] for name in OPTIONS if entry.columns.get(name) is not None}
    options = {name: value for name, value in options.items() if value != ""}
    if headers := _loaded(entry, "headers", dict):
        options["headers"] = headers
    if entry.expires is not None:
        end = _aware(entry.expires, app.timezone)
        if end <= now:
            raise _No(f"it has expired at {end.isoformat()}", NOT_NEEDED)
        options["expires"] = end
        notes.append(f"its jobs expire at {end.isoformat()}, but the entry goes on: delete it then")
    elif entry.columns.get("expire_seconds"):  # 0 stands for never there
        options["expires"] = entry.columns["expire_seconds"]
    return options


def _first(app: Any, entry: DjangoEntry, schedule: BaseSchedule, now: datetime) -> datetime:
    """When it is due next, as it would have been there: after its last run, not before its start.

    That may be past; then it runs with the first beat, as it would have there.
    """
    base = entry.last_run_at or entry.date_changed
    after = now if base is None else _aware(base, app.timezone)
    first = next_tick(schedule, after)
    if entry.start_time is not None:
        start = _aware(entry.start_time, app.timezone).astimezone(timezone.utc)
        if first < start:
            is_interval = entry.interval is not None
            first = start if is_interval else next_tick(schedule, start - timedelta(microseconds=1))
    return first


def _aware(moment: datetime, zone: tzinfo) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


# Write it


def _put(
    control: Schedules,
    entry: DjangoEntry,
    row: ScheduleRow,
    notes: list[str],
    *,
    dry_run: bool,
) -> Imported:
    """An entry here, paused where it is disabled there."""
    is_enabled = bool(entry.columns["enabled"])
    there = control.find_row(row.name)
    if there is not None and there.is_configured:
        raise _No("is in the beat_schedule of a program: beat takes it from there", NOT_NEEDED)
    if there is None:
        action = ADDED
    else:
        is_same = _compared(there) == _compared(row) and there.is_paused is not is_enabled
        action = UNCHANGED if is_same else CHANGED
    if action == ADDED and is_enabled and row.next_run_at <= control.now():
        notes.append("it is overdue there, and runs with the first beat")
    if action != UNCHANGED and not dry_run:
        with control.database.transaction():
            control.put_row(row)
            if is_enabled:
                control.resume(row.name)
            else:
                control.pause(row.name)
    if not is_enabled:
        notes.append("paused")
    return Imported(entry.name, action, notes)


def _compared(row: ScheduleRow) -> tuple[Any, ...]:
    return row.task, row.args, row.kwargs, row.options, row.definition


def _publish(
    control: Schedules,
    entry: DjangoEntry,
    read: PgEntry,
    at: datetime,
    now: datetime,
    notes: list[str],
    *,
    dry_run: bool,
) -> Imported:
    """Publish a job that waits for its time: an entry that runs once becomes a job."""
    app = control.app
    if not entry.columns["enabled"]:
        raise _No("it is disabled, and would run only once: publish it with an eta when it should")
    if entry.columns["total_run_count"]:
        raise _No("it has run", NOT_NEEDED)
    task_id = str(uuid5(NAMESPACE, json.dumps([app.main, entry.name])))
    job = jobs(app).get(task_id)
    if job is not None and job.state is not State.SCHEDULED:
        raise _No(f"it runs once, and its job is {job.state.value}", UNCHANGED)
    shown = at.astimezone(app.timezone).isoformat(" ", "seconds")
    if at <= now:  # its job may have run, and its row been deleted since
        raise _No(f"it runs once, and its time, {shown}, is past: publish it if it must still run")
    action = PUBLISHED
    if job is not None:
        same = (job.task, job.args, job.kwargs, job.scheduled_at)
        action = UNCHANGED if same == (read.task, read.args, read.kwargs, at) else CHANGED
    if action != UNCHANGED and not dry_run:
        jobs(app).filter(id=task_id, state=State.SCHEDULED).delete()
        options = {**read.options, "task_id": task_id, "eta": at}
        known = {"schedule": entry.name}
        publish_entry(app, read.task, read.args, read.kwargs, options, known)
    return Imported(entry.name, action, [f"a job that runs once, at {shown}", *notes])
