"""When entries are due in the next days, counted without going from tick to tick.

An entry of each second has 604,800 ticks in a week. Those of cron expressions and crontabs are
counted by day and hour, those of intervals by division; only what has no such rule is gone through,
and not far.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from celery.schedules import BaseSchedule, crontab, schedule
from croniter import CroniterBadDateError, croniter

from ..errors import InvalidOption
from .cron import cron
from .cron_times import parse
from .next_tick import next_tick, zone_of

#: How many ticks of a day are told one by one.
SHOWN = 24
#: How many ticks of a schedule without a rule are gone through.
STEPS = 60
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Ticks(NamedTuple):
    """So many ticks at, or in the hour that begins at, a moment."""

    at: datetime
    number: int = 1


class Day(NamedTuple):
    """The ticks of one day."""

    day: date
    number: int
    #: Up to :data:`SHOWN` of them, the first ones; none where there are more in an hour.
    times: tuple[datetime, ...] = ()
    #: There are more, or a few less: the clocks change, or not all of them were gone through.
    is_about: bool = False


def coming(
    given: BaseSchedule, next_run_at: datetime, now: datetime, zone: tzinfo, days: int = 7
) -> list[Day]:
    """The ticks of so many days from ``now`` on, by the days of a time zone.

    ``next_run_at`` is the first of them, whatever the schedule says: it may have been set. Raises
    InvalidOption for a schedule that cannot be computed.
    """
    first_day = now.astimezone(zone).date()
    until = datetime.combine(first_day + days * DAY, datetime.min.time(), zone)
    until = until.astimezone(timezone.utc)
    found = {first_day + n * DAY: Day(first_day + n * DAY, 0) for n in range(days)}
    last = None
    for tick in ticks_between(given, next_run_at, max(next_run_at, now), until):
        day = tick.at.astimezone(zone).date()
        if day in found:
            found[day] = _add(found[day], tick)
            last = day
    if _is_cut(given, found.values()):
        for day, each in found.items():
            if last is not None and day >= last:
                found[day] = each._replace(is_about=True)
    changes = {day for day in found if _has_change(day, zone_of(given))}
    return [
        each._replace(is_about=each.is_about or (each.day in changes and each.number > SHOWN))
        for each in found.values()
    ]


def count_overdue(
    given: BaseSchedule, next_run_at: datetime, now: datetime, days: int = 7
) -> tuple[int, bool]:
    """How many ticks were due and have not been published; True: and more than that.

    No further than so many days after the first of them.
    """
    until = min(now, next_run_at + days * DAY)
    if next_run_at > now:
        return 0, False
    count = sum(tick.number for tick in ticks_between(given, next_run_at, next_run_at, until))
    return max(1, count), until < now or (count >= STEPS and not _has_rule(given))


def ticks_between(
    given: BaseSchedule, first: datetime, since: datetime, until: datetime
) -> Iterator[Ticks]:
    """The ticks from ``since`` on and before ``until``, the ``first`` one among them if it is.

    No two of them are at the same time; those of an hour are one where they are many.
    """
    since, until = since.astimezone(timezone.utc), until.astimezone(timezone.utc)
    if since >= until:
        return
    if type(given) is schedule and not given.relative:
        yield from _of_interval(given.run_every, first.astimezone(timezone.utc), since, until)
        return
    if since <= first < until:
        yield Ticks(first.astimezone(timezone.utc))
    if isinstance(given, (cron, crontab)) and _has_rule(given):
        yield from _of_clock(given, max(since, first), until, first)
    else:
        yield from _one_by_one(given, max(since, first), until)


def _has_rule(given: BaseSchedule) -> bool:
    return type(given) in (cron, crontab) or (type(given) is schedule and not given.relative)


def _is_cut(given: BaseSchedule, days: Any) -> bool:
    return not _has_rule(given) and sum(day.number for day in days) >= STEPS


def _add(day: Day, tick: Ticks) -> Day:
    times = day.times
    if tick.number == 1 and len(times) < SHOWN and len(times) == day.number:
        times = (*times, tick.at)
    elif tick.number > 1:
        times = ()
    return day._replace(number=day.number + tick.number, times=times)


def _of_interval(
    every: timedelta, first: datetime, since: datetime, until: datetime
) -> Iterator[Ticks]:
    number = max(0, -((first - since) // every))  # the first one that is not before since
    tick = first + number * every
    if every * SHOWN >= DAY:
        while tick < until:
            yield Ticks(tick)
            tick += every
        return
    hour = since
    while hour < until:
        end = min(hour.replace(minute=0, second=0, microsecond=0) + HOUR, until)
        # ceil() of both ends: those at the end of an hour are of the next one
        count = -((tick - end) // every) if tick < end else 0
        if count:
            yield Ticks(tick, count)
            tick += count * every
        hour = end


def _of_clock(given: Any, since: datetime, until: datetime, but: datetime) -> Iterator[Ticks]:
    """By the wall clock of the schedule's zone; not ``but``, which is known."""
    zone = zone_of(given)
    minutes, hours = _minutes_and_hours(given)
    start, end = since.astimezone(zone).date(), until.astimezone(zone).date()
    for day in _days(given, start, (end - start).days + 1):
        if len(minutes) * len(hours) <= SHOWN:
            yield from _of_day(given, day, zone, minutes, hours, since, until, but)
            continue
        for hour in hours:
            moments = [_moment(day, hour, minute, zone) for minute in minutes]
            inside = [each for each in moments if since <= each < until and each != but]
            if inside:
                yield Ticks(inside[0], len(inside))


def _of_day(
    given: Any,
    day: date,
    zone: tzinfo,
    minutes: tuple[int, ...],
    hours: tuple[int, ...],
    since: datetime,
    until: datetime,
    but: datetime,
) -> Iterator[Ticks]:
    """The few ticks of a day; where the clocks change, as the schedule itself has it."""
    if _has_change(day, zone):
        begin = max(since, _moment(day, 0, 0, zone)) - timedelta(microseconds=1)
        end = min(until, _moment(day + DAY, 0, 0, zone))
        moments = [tick.at for tick in _one_by_one(given, begin, end)]
    else:
        moments = [_moment(day, hour, minute, zone) for hour in hours for minute in minutes]
    for each in moments:
        if since <= each < until and each != but:
            yield Ticks(each)


def _one_by_one(given: BaseSchedule, after: datetime, until: datetime) -> Iterator[Ticks]:
    tick = after
    for _ in range(STEPS):
        try:
            tick = next_tick(given, tick)
        except InvalidOption:
            return
        if tick >= until:
            return
        yield Ticks(tick)


def _moment(day: date, hour: int, minute: int, zone: tzinfo) -> datetime:
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
    return local.astimezone(timezone.utc)


def _has_change(day: date, zone: tzinfo) -> bool:
    """True where the clocks change on a day."""
    begin = datetime(day.year, day.month, day.day, tzinfo=zone)
    return begin.utcoffset() != (begin + DAY).utcoffset()


def _minutes_and_hours(given: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(given, cron):
        return _expanded(given.expression)
    return tuple(sorted(given.minute)), tuple(sorted(given.hour))


def _days(given: Any, start: date, count: int) -> tuple[date, ...]:
    """The days from ``start`` on, so many of them, on which there are ticks."""
    if isinstance(given, cron):
        return _days_of(given.expression, start, count)
    days = (start + n * DAY for n in range(count))
    return tuple(
        day
        for day in days
        if day.month in given.month_of_year
        and day.day in given.day_of_month
        and day.isoweekday() % 7 in given.day_of_week
    )


@lru_cache(maxsize=4096)
def _expanded(expression: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    minutes, hours, *_ = croniter(" ".join(parse(expression))).expanded
    return (
        tuple(range(60)) if minutes == ["*"] else tuple(minutes),
        tuple(range(24)) if hours == ["*"] else tuple(hours),
    )


@lru_cache(maxsize=4096)
def _days_of(expression: str, start: date, count: int) -> tuple[date, ...]:
    _, _, *fields = parse(expression)
    # As if it were UTC: to croniter the wall clock is a clock that never changes.
    begin = datetime(start.year, start.month, start.day) - timedelta(seconds=1)
    ticks = croniter(" ".join(("0", "0", *fields)), begin)
    days: list[date] = []
    for _ in range(count):
        try:
            day = ticks.get_next(datetime).date()
        except CroniterBadDateError:
            break
        if day >= start + count * DAY:
            break
        days.append(day)
    return tuple(days)
