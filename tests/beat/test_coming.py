"""Ticks are counted by rule as they are when gone through one by one, and at a bounded price."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar

from pgjobs_celery.beat import coming as module
from pgjobs_celery.beat.coming import coming, count_overdue
from pgjobs_celery.beat.cron import cron
from pgjobs_celery.beat.next_tick import next_tick

BERLIN = ZoneInfo("Europe/Berlin")
UTC = timezone.utc
#: In the middle of a week, and before the clocks are put back and forward.
STARTS = [
    datetime(2026, 11, 25, 13, 37, 11, 5, tzinfo=UTC),
    datetime(2026, 10, 22, 22, 0, tzinfo=UTC),
    datetime(2027, 3, 26, 23, 59, 59, tzinfo=UTC),
]


def app() -> Celery:
    app = Celery("coming", set_as_current=False)
    app.conf.timezone = "Europe/Berlin"
    return app


APP = app()
SCHEDULES = {
    "nightly": cron("30 2 * * *", tz="Europe/Berlin"),
    "hourly": cron("0 * * * *", tz="Europe/Berlin"),
    "of the app": cron("15 6,18 * * mon-fri", app=APP),
    "elsewhere": cron("45 23 * * *", tz="Pacific/Chatham"),
    "either day": cron("0 12 27 * 5", tz="UTC"),
    "last day": cron("0 1 l * *", tz="UTC"),
    "leap day": cron("0 0 29 2 *", tz="UTC"),
    "crontab": crontab("30", "8,20", app=APP),
    "both days": crontab("0", "12", day_of_week="thu,fri", day_of_month="26-27", app=APP),
    "dense crontab": crontab("*/7", "9-17", app=APP),
    "every 45 min": schedule(2700),
    "every 8 h": schedule(8 * 3600),
    "every 13 h": schedule(13 * 3600),
}


def gone_through(given, first, now, until, zone):
    """The number of ticks of each day, by asking for one after the other."""
    counts: Counter[object] = Counter()
    tick = first
    while tick < until:
        if tick >= now:
            counts[tick.astimezone(zone).date()] += 1
        tick = next_tick(given, tick)
    return counts


@pytest.mark.parametrize("now", STARTS, ids=["usual", "back", "forward"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_days_are_counted_as_by_going_through_them(name, now):
    given = SCHEDULES[name]
    first = next_tick(given, now)
    days = coming(given, first, now, BERLIN)
    end = datetime.combine(days[-1].day + timedelta(days=1), datetime.min.time(), BERLIN)
    counts = gone_through(given, first, now, end.astimezone(UTC), BERLIN)
    assert len(days) == 7
    for day in days:
        if not day.is_about:
            assert day.number == counts[day.day], day
        if day.times:
            assert [at.astimezone(BERLIN).date() for at in day.times] == [day.day] * len(day.times)
    if now == STARTS[0]:
        assert not any(day.is_about for day in days)


def test_the_times_are_those_of_the_ticks():
    given = SCHEDULES["nightly"]
    now = STARTS[1]  # across the night in which 02:30 is there twice
    first = next_tick(given, now)
    times = [at for day in coming(given, first, now, BERLIN) for at in day.times]
    expected = [first]
    while len(expected) < len(times):
        expected.append(next_tick(given, expected[-1]))
    assert times == expected


@pytest.mark.parametrize(
    ("given", "number"),
    [
        (cron("* * * * *", tz="UTC"), 1440),
        (schedule(1), 86_400),
        (schedule(0.001), 86_400_000),
        (crontab(app=APP), 1440),
    ],
)
def test_a_dense_entry_is_counted_without_going_through_it(given, number, monkeypatch):
    def never(*args: object) -> datetime:
        raise AssertionError("a tick was asked for")

    now = STARTS[0]
    monkeypatch.setattr(module, "next_tick", never)
    days = coming(given, now + timedelta(seconds=60), now, UTC)
    assert [day.number for day in days[1:]] == [number] * 6
    assert days[0].number < number
    assert not any(day.is_about for day in days)
    assert all(len(day.times) <= module.SHOWN for day in days)


def test_the_next_tick_is_the_one_that_was_set():
    now = STARTS[0]
    first = now + timedelta(hours=1, seconds=7)  # off the schedule
    days = coming(SCHEDULES["every 8 h"], first, now, UTC)
    assert days[0].times[0] == first
    days = coming(SCHEDULES["nightly"], now + timedelta(days=3, seconds=7), now, UTC)
    assert [day.number for day in days] == [0, 0, 0, 1, 1, 1, 1]


def test_the_sun_and_what_goes_by_the_clock_are_gone_through_up_to_a_bound():
    now = STARTS[0]
    sunset = solar("sunset", 52.5, 13.4, app=APP)
    days = coming(sunset, next_tick(sunset, now), now, UTC)
    assert [day.number for day in days] == [1] * 7
    often = schedule(60, relative=True, app=APP)
    days = coming(often, next_tick(often, now), now, UTC)
    assert sum(day.number for day in days) <= module.STEPS + 1
    assert all(day.is_about for day in days)


def test_late_ticks_are_counted():
    now = STARTS[0]
    assert count_overdue(schedule(60), now + timedelta(seconds=1), now) == (0, False)
    assert count_overdue(schedule(60), now - timedelta(seconds=150), now) == (3, False)
    nightly = SCHEDULES["nightly"]
    first = next_tick(nightly, now - timedelta(days=3))
    assert count_overdue(nightly, first, now) == (3, False)
    assert count_overdue(schedule(1), now - timedelta(days=400), now) == (604_800, True)
    often = schedule(60, relative=True, app=APP)
    assert count_overdue(often, now - timedelta(hours=5), now)[1]
