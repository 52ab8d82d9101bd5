"""Findings about entries that work, but perhaps not as intended. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from celery.schedules import BaseSchedule, crontab

from .cron import cron
from .cron_times import has_either_day, next_change
from .cron_times import next_tick as next_cron_tick
from .entry import to_row
from .missed import ALL, GRACE, SKIP
from .next_tick import next_tick
from .schedule import Schedule, find_own, to_handle, unknown_task
from .spec import OTHER

#: How far ahead changes of the clocks are checked.
AHEAD = timedelta(days=366)
#: The span before and after a change: no hour that it skips or repeats is further away.
AROUND = timedelta(hours=3)
#: A finding mentions missed ticks that are not made up for where the next is further away.
LONG = timedelta(hours=1)
#: It mentions many at once where they are closer together.
SHORT = timedelta(seconds=60)


class Finding(NamedTuple):
    """One thing about one entry."""

    name: str
    #: ``task``, ``days``, ``clocks``, ``missed``, ``unread``, ``damaged``, ``wrong``, ``unknown``.
    rule: str
    text: str


def check_schedules(app: Any, entries: Iterable[Schedule], now: datetime) -> list[Finding]:
    """Findings about the entries of an app.

    Those of its ``beat_schedule`` are checked as they are written there, whether a beat has started
    with them or not: in a CI job none has.
    """
    found = {entry.name: entry for entry in entries}
    own = {str(key): key for key in app.conf.beat_schedule}
    has_started = any(entry.is_configured for entry in found.values())
    findings = []
    clocks: dict[str, list[str]] = {}
    for name in sorted({*found, *own}):
        entry = found.get(name)
        try:
            if entry is None or entry.is_configured:
                entry = _read_own(app, own.get(name, name), now) or entry
        except Exception as error:  # as in a beat, which leaves it out for any error
            findings.append(Finding(name, "wrong", f"beat leaves it out: {error}"))
            continue
        if entry is not None:
            try:
                findings += [Finding(name, *finding) for finding in _check(app, entry, now, clocks)]
            except Exception as error:  # as in a beat, whose row has a schedule that cannot be
                findings.append(Finding(name, "wrong", f"beat cannot compute it: {error}"))
        if name not in found and has_started:
            text = "is in beat_schedule, and no beat has started with it yet"
            findings.append(Finding(name, "unknown", text))
    return findings


def _read_own(app: Any, name: Any, now: datetime) -> Schedule | None:
    """The program's own entry of this name, as its row will hold it; None if it has none."""
    own = find_own(app, name)
    return to_handle(to_row(own, now, is_configured=True), app) if own else None


def _check(
    app: Any, entry: Schedule, now: datetime, clocks: dict[str, list[str]]
) -> Iterator[tuple[str, str]]:
    if unknown := unknown_task(app, entry.task):
        yield "task", unknown
    schedule = entry.schedule
    if schedule is None and entry.is_configured:
        own = find_own(app, entry.name)
        schedule = own.schedule if own else None
    if schedule is None:
        if entry.spec.get("type") != OTHER:
            yield "unread", f"its schedule cannot be read here: {dict(entry.spec)}"
        return
    if entry.damage:
        yield "damaged", entry.damage
    if isinstance(schedule, cron) and has_either_day(schedule.expression):
        yield (
            "days",
            f"{schedule.expression!r} is due on the days of the month and on those of the week as "
            "well; Celery's crontab() asks for both",
        )
    if type(schedule) is crontab:
        fields = repr(schedule)
        if fields not in clocks:  # some thousand entries may have the same, and each takes a while
            clocks[fields] = list(check_clocks(schedule, app.timezone, now))
        yield from (("clocks", text) for text in clocks[fields])
    yield from (("missed", text) for text in _check_missed(entry, schedule, now))


def _check_missed(entry: Schedule, schedule: BaseSchedule, now: datetime) -> Iterator[str]:
    first = next_tick(schedule, now)
    gap = next_tick(schedule, first) - first
    if entry.missed == SKIP and gap >= LONG:
        yield (
            f"a tick that no beat is there for within {GRACE:.0f} s is left out, and the next one "
            f"comes {gap} later: missed='once' makes up for it"
        )
    if entry.missed == ALL and gap < SHORT and entry.missed_limit > 1:
        yield (
            f"it is due every {gap.total_seconds():g} s, and when no beat was there up to "
            f"{entry.missed_limit} jobs are published together"
        )


def check_clocks(given: crontab, zone: tzinfo, now: datetime) -> Iterator[str]:
    """For each change of the clocks in the coming year: how Celery's crontab handles it, where
    cron() would differ."""
    end = now + AHEAD
    change = next_change(now, end, zone)
    while change is not None:
        theirs = set(_ticks(lambda after: next_tick(given, after), change))
        ours = set(_cron_ticks(given, zone, change))
        if difference := _difference(_times(theirs - ours, zone), _times(ours - theirs, zone)):
            day = change.astimezone(zone).date()
            yield f"on {day}, when the clocks change, it is {difference}"
        change = next_change(change, end, zone)


def _cron_ticks(given: crontab, zone: tzinfo, change: datetime) -> Iterator[datetime]:
    """When the fields would be due by cron's rule, on days that Celery means."""
    hour = given._orig_hour
    is_step = isinstance(hour, str) and hour.startswith("*")
    hours = hour if is_step else ",".join(map(str, sorted(given.hour)))
    expression = f"{','.join(map(str, sorted(given.minute)))} {hours} * * *"
    for tick in _ticks(lambda after: next_cron_tick(expression, zone, after), change):
        day = tick.astimezone(zone)
        if (
            day.month in given.month_of_year
            and day.day in given.day_of_month
            and day.isoweekday() % 7 in given.day_of_week
        ):
            yield tick


def _ticks(next_of: Callable[[datetime], datetime], change: datetime) -> Iterator[datetime]:
    tick = next_of(change - AROUND)
    while tick <= change + AROUND:
        yield tick.replace(microsecond=0)
        tick = next_of(tick)


def _difference(theirs: str, ours: str) -> str:
    if theirs and ours:
        return f"due at {theirs} and not at {ours} as cron() would be"
    if theirs:
        return f"due at {theirs} as cron() would not be"
    return f"not due at {ours} as cron() would be" if ours else ""


def _times(found: Iterable[datetime], zone: tzinfo) -> str:
    """Some moments, as the clocks show them, and how far these are from UTC."""
    shown = [f"{tick.astimezone(zone):%H:%M%z}" for tick in sorted(found)]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more times" if shown[3:] else "")
