"""Any schedule's next tick is when Celery's own beat would have it, had it been there all along."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import celery
import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedstate, schedule, solar
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pgjobs_celery.beat.cron import cron
from pgjobs_celery.beat.next_tick import next_tick
from pgjobs_celery.beat.spec import definition_of, to_schedule
from pgjobs_celery.errors import InvalidOption

UTC = timezone.utc
ROOT = Path(__file__).parents[2]


def app_in(zone: str) -> Celery:
    app = Celery("tests", set_as_current=False)
    app.conf.timezone = zone
    return app


def ours(given: BaseSchedule, after: datetime, until: datetime) -> list[datetime]:
    found = []
    while (after := next_tick(given, after)) <= until:
        found.append(after)
    return found


def celerys(given: BaseSchedule, app: Celery, after: datetime, until: datetime) -> list[datetime]:
    """As ``celery.beat`` goes about it, with a clock that does not tick unless it sleeps."""
    now = last = after.astimezone(app.timezone)
    given.nowfun = lambda: now
    found = []
    for _ in range(5000):
        if now > until:
            return found
        is_due, seconds = given.is_due(last)
        if is_due and now > last:
            found.append(now.astimezone(UTC))
            last = now
        now = (now.astimezone(UTC) + timedelta(seconds=max(seconds, 1e-6))).astimezone(app.timezone)
    raise AssertionError("asked too often")


def crontab_fields(low: int, high: int) -> st.SearchStrategy[str]:
    return st.one_of(
        st.just("*"),
        st.integers(2, 6).map(lambda step: f"*/{step}"),
        st.sets(st.integers(low, high), min_size=1, max_size=3).map(
            lambda values: ",".join(map(str, sorted(values)))
        ),
    )


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.sets(st.integers(0, 59), min_size=1, max_size=2).map(
        lambda values: ",".join(map(str, sorted(values)))
    ),
    crontab_fields(0, 23),
    crontab_fields(0, 6),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 1)),
)
def test_crontabs_ticks_are_celerys(minute, hour, weekday, zone, after):
    app = app_in(zone)
    given = crontab(minute=minute, hour=hour, day_of_week=weekday, app=app)
    after = after.replace(tzinfo=UTC)
    if after.astimezone(app.timezone).fold:
        after -= timedelta(hours=2)  # there, Celery's beat does not stop to publish
    until = after + timedelta(days=3)
    assert ours(given, after, until) == celerys(given, app, after, until)


@pytest.mark.parametrize("seconds", [7, 90, 3600, 86_400, 200_000])
@pytest.mark.parametrize("relative", [False, True])
def test_intervals_ticks_are_celerys_where_clocks_do_not_change(seconds, relative):
    app = app_in("Asia/Kathmandu")
    given = schedule(seconds, relative=relative, app=app)
    after = datetime(2026, 3, 28, 13, 17, 5, tzinfo=UTC)
    until = after + timedelta(seconds=20 * seconds)
    found = ours(given, after, until)
    assert len(found) >= 19
    if not relative:
        assert found[:19] == [after + timedelta(seconds=seconds * n) for n in range(1, 20)]
    elif seconds == 86_400:
        assert {each.astimezone(app.timezone).hour for each in found} == {0}
    if celery.VERSION >= (5, 7) or not relative:  # which looks too late for the one after the first
        assert found[:10] == celerys(given, app, after, until)[:10]


def test_an_interval_is_as_long_when_the_clocks_change():
    given = schedule(86_400, app=app_in("Europe/Berlin"))
    after = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert next_tick(given, after) == after + timedelta(days=1)


def test_crontab_goes_on_after_the_repeated_hour():
    given = crontab(minute="*/30", app=app_in("Europe/Berlin"))
    repeated = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert repeated.astimezone(ZoneInfo("Europe/Berlin")).fold == 1
    assert next_tick(given, repeated) == datetime(2026, 10, 25, 2, tzinfo=UTC)
    # Celery's own is due at once there, and again, until that hour is over.
    now = repeated.astimezone(ZoneInfo("Europe/Berlin"))
    given.nowfun = lambda: now
    assert given.is_due(now) == (True, 0)


def test_a_schedule_goes_by_its_own_app_and_not_by_the_current_one():
    Celery("current").conf.timezone = "Asia/Tokyo"
    after = datetime(2026, 6, 1, 12, tzinfo=UTC)
    app = app_in("America/New_York")
    for each in (crontab(minute=0, hour=5), schedule(86_400, relative=True), cron("0 5 * * *")):
        local = next_tick(to_schedule(each, app=app), after).astimezone(app.timezone)
        assert (local.hour, local.minute) == (0 if isinstance(each, schedule) else 5, 0)
    tick = next_tick(cron("0 5 * * *", tz="Europe/Paris"), after)
    assert tick.astimezone(ZoneInfo("Europe/Paris")).hour == 5


def test_each_sunrise_is_one_tick():
    pytest.importorskip("ephem", reason="needs celery[solar]")
    given = solar("sunrise", 52.5, 13.4, app=app_in("Europe/Berlin"))
    after = datetime(2026, 3, 1, tzinfo=UTC)
    found = ours(given, after, after + timedelta(days=30, hours=12))
    assert len(found) == 31
    apart = [(b - a).total_seconds() / 3600 for a, b in pairwise(found)]
    assert 23.9 < min(apart) < max(apart) < 24.1
    # No sun for months, and then the first one.
    after = datetime(2025, 11, 1, tzinfo=UTC)
    polar = solar("sunrise", 80.0, 13.4, app=app_in("UTC"))
    if celery.VERSION >= (5, 7):  # before that it raises
        assert next_tick(polar, after).month == 2


class OfficeHours(crontab):
    """Of somebody's own: says in ``is_due`` when it may not run."""

    def is_due(self, last_run_at: datetime) -> schedstate:
        is_due, seconds = super().is_due(last_run_at)
        if is_due and not 9 <= self.now().hour < 17:
            return schedstate(False, 600)
        return schedstate(is_due, seconds)


class Always(BaseSchedule):
    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return timedelta(seconds=-1)

    def is_due(self, last_run_at: datetime) -> schedstate:
        return schedstate(True, 0)


class Never(BaseSchedule):
    def is_due(self, last_run_at: datetime) -> tuple[Any, ...]:
        return False, None


def test_a_schedule_of_somebodys_own_is_asked_as_it_wants():
    given = OfficeHours(minute=30, app=app_in("UTC"))
    after = datetime(2026, 6, 1, 16, 45, tzinfo=UTC)
    assert next_tick(given, after) == datetime(2026, 6, 2, 9, tzinfo=UTC)
    for wrong in (Always, Never):
        with pytest.raises(InvalidOption, match=wrong.__name__):
            next_tick(wrong(app=app_in("UTC")), after)


@pytest.mark.parametrize("given", [None, {"every": 1}, object(), [1], float("nan"), "nonsense"])
def test_what_is_no_schedule_is_refused(given):
    with pytest.raises(InvalidOption):
        to_schedule(given)


def test_a_definition_tells_schedules_apart_and_nothing_else():
    berlin, paris = app_in("Europe/Berlin"), app_in("Europe/Paris")
    alike = [
        lambda: crontab(hour={5, 3}, app=berlin),
        lambda: cron("0 5 * * *", app=berlin),
        lambda: cron("0 5 * * *", tz="Europe/Paris", app=berlin),
        lambda: schedule(5, app=berlin),
        lambda: schedule(5, relative=True, app=berlin),
        lambda: OfficeHours(minute=1, app=berlin),
        lambda: Always(app=berlin),
        lambda: crontab(hour={5, 3}, app=paris),
    ]
    assert [definition_of(make()) for make in alike] == [definition_of(make()) for make in alike]
    assert len({definition_of(make()) for make in alike}) == len(alike)
    assert definition_of(schedule(5, app=paris)) == definition_of(schedule(5, app=berlin))


#: What a schedule may hold, in a process that orders texts in its own way.
HOLDER = """
from tests.beat.test_next_tick import Always, app_in
from pgjobs_celery.beat.spec import definition_of
given = Always(app=app_in("UTC"))
given.tags = [{"words": {"a", "b", "c", "d"}}, object(), lambda: None]
print(definition_of(given))
"""


def test_a_definition_is_the_same_in_another_process():
    def ask(seed: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", HOLDER],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert ask(1) == ask(2) != ""
    assert ask(1).strip() != definition_of(Always(app=app_in("UTC")))
