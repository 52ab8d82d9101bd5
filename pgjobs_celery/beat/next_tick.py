"""When any schedule is due next: ours, Celery's, or one of another class."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

from celery.schedules import BaseSchedule, crontab, schedule, solar

from ..errors import InvalidOption
from .cron import cron

#: Celery's own classes, for which remaining_estimate() is enough.
CELERYS = (schedule, crontab, solar)
#: How often a schedule of another class is asked on the way to one tick.
MOST_ANSWERS = 1000
#: A solar event this close is the same event, computed again: the results differ a little.
SAME_EVENT = timedelta(seconds=1)


def next_tick(given: BaseSchedule, after: datetime) -> datetime:
    """When a schedule is due next after a moment, in UTC, whatever class it is of.

    Asked as Celery's beat does, only that to the schedule it is that moment now. Raises
    InvalidOption for one that names no later moment.
    """
    if type(given) is schedule and not given.relative:
        # In real time, where Celery before 5.7 goes by what the clocks show.
        return _later(given, after, after.astimezone(timezone.utc) + given.run_every)
    # Not copy.copy(): what Celery's classes say of themselves to pickle leaves out their app.
    asked = object.__new__(type(given))
    asked.__dict__.update(given.__dict__)
    local = after.astimezone(zone_of(given))
    if type(given) in CELERYS or type(given) is cron:
        return _later(given, after, _estimate(asked, local))
    return _next_of_other(asked, local)


def _estimate(asked: BaseSchedule, after: datetime) -> datetime:
    """Its own estimate of the next tick after a moment; that moment where it names no later one."""
    last = after
    for _ in range(MOST_ANSWERS):
        asked.nowfun = lambda last=last: last
        last_utc = last.astimezone(timezone.utc)
        due: datetime = last_utc + asked.remaining_estimate(last)
        if isinstance(asked, solar) and due - last_utc < SAME_EVENT:
            due = last_utc + SAME_EVENT
        elif due > after or due == last_utc:
            return due
        # In the second of two repeated hours crontab names a time in the first: on from there.
        last = due.astimezone(after.tzinfo)
    return after


def _next_of_other(asked: BaseSchedule, after: datetime) -> datetime:
    """When a schedule of another class is due: when its own is_due() says so."""
    try:
        now = _estimate(asked, after)
    except NotImplementedError:
        asked.nowfun = lambda: after
        now = after.astimezone(timezone.utc) + _wait(asked, asked.is_due(after))
    for _ in range(MOST_ANSWERS):
        at = now.astimezone(after.tzinfo)
        asked.nowfun = lambda at=at: at
        answer = asked.is_due(after)
        if answer[0]:
            return _later(asked, after, now)
        now += _wait(asked, answer)
    raise InvalidOption(f"{asked!r} is not due in {MOST_ANSWERS:,} answers of is_due")


def _wait(asked: BaseSchedule, answer: Any) -> timedelta:
    try:
        return timedelta(seconds=max(float(answer[1]), 0.001))
    except (TypeError, ValueError):
        raise InvalidOption(f"{asked!r} does not say when to ask it again: {answer!r}") from None


def _later(given: BaseSchedule, after: datetime, due: datetime) -> datetime:
    if due <= after:
        raise InvalidOption(f"{given!r} is due at once, again and again")
    return due.astimezone(timezone.utc)


def zone_of(given: BaseSchedule) -> tzinfo:
    """Where it takes its days and hours from: as Celery's beat, from what it says is now."""
    if isinstance(given, solar):
        return timezone.utc  # before Celery 5.7 it is an hour off when the clocks of a zone change
    zone: tzinfo = getattr(given.now(), "tzinfo", None) or given.tz
    return given.tz if type(given) is cron else zone
