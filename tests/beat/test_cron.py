"""Cron expressions in zones whose clocks change: no tick is lost, doubled or out of order."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime, timedelta, timezone
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from pgjobs_celery.beat.cron_times import has_either_day, next_tick, parse
from pgjobs_celery.errors import InvalidOption

from ..support.cron_oracle import ticks_of_intervals, ticks_of_times

UTC = timezone.utc

#: Without the search for the smallest failure, which takes minutes where each look takes so long.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]

#: Zones, and a day on which their clocks change.
CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2027-03-14"),
    ("America/New_York", "2027-11-07"),
    ("Australia/Lord_Howe", "2026-10-04"),  # by half an hour
    ("Australia/Lord_Howe", "2027-04-04"),
    ("Africa/Casablanca", "2026-02-15"),  # for Ramadan
    ("Africa/Casablanca", "2026-03-22"),
    ("America/Santiago", "2026-09-06"),  # at midnight
    ("America/Santiago", "2027-04-04"),
    ("Asia/Beirut", "2026-03-29"),  # at midnight, so that the day begins at one
    ("America/Nuuk", "2026-03-29"),
    ("Pacific/Apia", "2011-12-30"),  # a day that was not
    ("Europe/Dublin", "2026-10-25"),
    ("Asia/Kathmandu", "2026-06-01"),  # never
    ("UTC", "2026-06-01"),
]


class Field(NamedTuple):
    """As it is written, and what it means."""

    text: str
    values: frozenset[int]

    @property
    def is_star(self) -> bool:
        return self.text.startswith("*")


def every(low: int, high: int) -> st.SearchStrategy[Field]:
    return st.just(Field("*", frozenset(range(low, high + 1))))


def steps(low: int, high: int) -> st.SearchStrategy[Field]:
    return st.integers(max(2, (high - low) // 4), max(3, (high - low) // 2)).map(
        lambda step: Field(f"*/{step}", frozenset(range(low, high + 1, step)))
    )


def lists(low: int, high: int) -> st.SearchStrategy[Field]:
    return st.sets(st.integers(low, high), min_size=1, max_size=3).map(
        lambda values: Field(",".join(map(str, sorted(values))), frozenset(values))
    )


def ranges(low: int, high: int) -> st.SearchStrategy[Field]:
    return st.tuples(st.integers(low, high), st.integers(0, 5)).map(
        lambda ends: Field(
            f"{ends[0]}-{min(sum(ends), high)}",
            frozenset(range(ends[0], min(sum(ends), high) + 1)),
        )
    )


def fields(low: int, high: int) -> st.SearchStrategy[Field]:
    """What a field from ``low`` to ``high`` may say."""
    return st.one_of(*(kind(low, high) for kind in (every, steps, lists, ranges)))


class Cron(NamedTuple):
    """An expression, and whether a wall clock's time is one of those that are meant."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    def __str__(self) -> str:
        return " ".join(field.text for field in self)

    def matches(self, wall: datetime) -> bool:
        is_day = wall.day in self.day.values
        is_weekday = wall.isoweekday() % 7 in self.weekday.values
        if len(self.day.values) == 31 or len(self.weekday.values) == 7:
            is_meant = is_day and is_weekday
        else:
            is_meant = is_day or is_weekday
        return (
            is_meant
            and wall.month in self.month.values
            and wall.hour in self.hour.values
            and wall.minute in self.minute.values
        )


#: The hours that clocks skip and repeat are what matters; every minute of a day is a long look.
MINUTES = st.one_of(lists(0, 59), lists(0, 59), steps(0, 59), ranges(0, 59))
HOURS = st.one_of(every(0, 23), steps(0, 23), lists(0, 23), lists(0, 3), ranges(0, 23))
MONTHS = every(1, 12)

EXPRESSIONS = st.builds(Cron, MINUTES, HOURS, fields(1, 31), MONTHS, fields(0, 6))
DAILY = st.builds(Cron, MINUTES, HOURS, every(1, 31), MONTHS, every(0, 6))


def simple(minute: str, hour: str) -> Cron:
    """``minute hour * * *``."""

    def field(text: str, low: int, high: int) -> Field:
        every = frozenset(range(low, high + 1))
        return Field(text, every if text == "*" else frozenset(map(int, text.split(","))))

    return Cron(field(minute, 0, 59), field(hour, 0, 23), *(field("*", *ends) for ends in (
        (1, 31), (1, 12), (0, 6),
    )))  # fmt: skip


@settings(max_examples=80, deadline=None, phases=PHASES)
@given(
    st.one_of(EXPRESSIONS, DAILY),
    st.sampled_from(CHANGES),
    st.lists(st.integers(0, 86_400), max_size=4),
    st.integers(0, 999_999),
)
@example(simple("30", "2"), CHANGES[0], [], 0)
@example(simple("30", "2"), CHANGES[1], [], 0)
@example(simple("0,30", "*"), CHANGES[5], [], 0)
@example(simple("45", "1"), CHANGES[5], [], 0)
@example(simple("15", "2"), CHANGES[4], [], 0)
@example(simple("0", "0"), CHANGES[8], [], 0)
@example(simple("0", "12"), CHANGES[12], [], 0)
def test_ticks_are_those_that_a_look_at_every_minute_finds(cron, change, seconds, micros):
    zone = ZoneInfo(change[0])
    start = datetime.fromisoformat(f"{change[1]}T00:00").replace(tzinfo=zone) - timedelta(hours=9)
    start, end = start.astimezone(UTC), (start + timedelta(days=1.5)).astimezone(UTC)
    look = ticks_of_intervals if cron.hour.is_star else ticks_of_times
    expected = look(cron.matches, zone, start, end)
    found = []
    tick = start
    try:
        while (tick := next_tick(str(cron), zone, tick)) <= end:
            found.append(tick)
    except InvalidOption:  # a day that no month has
        assert cron.day.values <= {30, 31}
    assert found == expected
    for each in seconds:
        after = start + timedelta(seconds=each, microseconds=micros)
        place = bisect_right(expected, after)
        if place < len(expected):
            assert next_tick(str(cron), zone, after) == expected[place]


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(EXPRESSIONS, st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)))
def test_where_clocks_never_change_croniter_says_the_same(cron, after):
    after = after.replace(tzinfo=UTC)
    text = " ".join(parse(str(cron)))  # without ranges of one, which croniter reads as any
    expected = croniter(text, after).get_next(datetime)
    assert next_tick(str(cron), ZoneInfo("UTC"), after) == expected
    kathmandu = ZoneInfo("Asia/Kathmandu")
    local = after.astimezone(kathmandu).replace(tzinfo=UTC)
    wall = croniter(text, local).get_next(datetime).replace(tzinfo=kathmandu)
    assert next_tick(str(cron), kathmandu, after) == wall


@settings(max_examples=40, deadline=None, phases=PHASES)
@given(
    DAILY, st.sampled_from(sorted({name for name, _ in CHANGES})),
    st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1)),
)  # fmt: skip
def test_a_tick_is_later_whatever_the_moment(cron, name, after):
    zone = ZoneInfo(name)
    after = after.replace(tzinfo=UTC)
    first = next_tick(str(cron), zone, after)
    assert first > after
    assert first.tzinfo is UTC
    # No moment before it has a tick in between.
    assert next_tick(str(cron), zone, after + (first - after) / 2) == first
    assert next_tick(str(cron), zone, first) > first


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@daily", ("0", "0", "*", "*", "*")),
        ("@hourly", ("0", "*", "*", "*", "*")),
        ("3-3 4-4/2,5 * * 1-1", ("3", "4,5", "*", "*", "1")),
        ("*/5 8-18 * jan mon-fri", ("*/5", "8-18", "*", "jan", "mon-fri")),
    ],
)
def test_an_expression_has_five_fields(expression, expected):
    assert parse(expression) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "not a cron expression"),
        ("* * *", "not a cron expression"),
        ("61 * * * *", "not a cron expression"),
        ("@reboot", "not a cron expression"),
        ("0 0 * * * 30", "has 6 fields"),
        ("H * * * *", "not a cron expression"),
        ("R * * * *", "another time in each process"),
    ],
)
def test_what_is_no_expression_is_refused(expression, message):
    with pytest.raises(InvalidOption, match=message):
        parse(expression)


def test_what_is_never_due_is_said():
    with pytest.raises(InvalidOption, match="never due"):
        next_tick("0 0 30 2 *", UTC, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 1 * 1", True),
        ("0 0 * * 1", False),
        ("0 0 1 * *", False),
        ("0 0 */2 * 1", True),
        ("0 0 ? * 1", False),
    ],
)
def test_a_day_of_the_month_and_one_of_the_week_are_either(expression, expected):
    assert has_either_day(expression) is expected
