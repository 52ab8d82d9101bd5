"""What becomes of ticks that nobody was there for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgjobs_celery.beat.missed import ALL, GRACE, MISSED, MOST, ONCE, SKIP, find_due

START = datetime(2026, 3, 29, tzinfo=timezone.utc)


def second(number: float) -> datetime:
    return START + timedelta(seconds=number)


def every(seconds: float) -> Callable[[datetime], datetime]:
    return lambda after: after + timedelta(seconds=seconds)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.5, 120), min_size=1, max_size=60),
    st.floats(-10, 2000),
    st.sampled_from(MISSED),
    st.integers(1, 10),
    st.none() | st.floats(0, 300),
)
def test_due_is_what_a_list_of_all_ticks_says(gaps, now, missed, limit, deadline):
    moments = [START]
    for gap in gaps:
        moments.append(moments[-1] + timedelta(seconds=gap))
    moments += [second(10_000)]

    def next_tick(after: datetime) -> datetime:
        return moments[bisect_right(moments, after)]

    at = second(now)
    past = [moment for moment in moments if moment <= at]
    late = [moment for moment in past if moment < at - timedelta(seconds=GRACE)]
    expected = [moment for moment in past if moment not in late]
    if missed == ALL:
        expected = late[-limit:] + expected
    elif missed == ONCE and not expected:
        expected = late[-1:]
    if deadline is not None:
        expected = [each for each in expected if at - each <= timedelta(seconds=deadline)]
    due = find_due(START, at, next_tick, missed, limit, deadline=deadline)
    assert due.ticks == expected
    assert due.next == next(moment for moment in moments if moment > at)


@pytest.mark.parametrize("missed", MISSED)
@pytest.mark.parametrize("seconds", [0.001, 0.01, 1.0, 7.0])
def test_a_month_of_seconds_does_not_take_a_month(missed, seconds):
    calls = 0

    def next_tick(after: datetime) -> datetime:
        nonlocal calls
        calls += 1
        return after + timedelta(seconds=seconds)

    now = second(30 * 86_400 + seconds / 2)
    due = find_due(START, now, next_tick, missed, 100)
    assert calls < 5 * MOST
    assert now < due.next <= now + timedelta(seconds=seconds)
    assert len(due.ticks) <= MOST + 100
    in_time = [each for each in due.ticks if now - each <= timedelta(seconds=GRACE)]
    assert now - due.ticks[-1] <= timedelta(seconds=seconds)
    assert due.ticks == sorted(set(due.ticks))
    for each in (*due.ticks, due.next):
        assert (each - START) % timedelta(seconds=seconds) == timedelta()
    if missed == ALL:
        assert len(due.ticks) - len(in_time) == 100
    elif missed == SKIP or in_time:
        assert due.ticks == in_time


@settings(max_examples=150, deadline=None)
@given(
    st.floats(0.004, 5000),
    st.floats(-100, 5_000_000),
    st.sampled_from(MISSED),
    st.integers(1, MOST),
    st.none() | st.floats(0, 100_000),
)
@example(0.005, 3000.0, ALL, MOST, None)
@example(1.0, 5_000_000.0, ALL, MOST, None)
@example(0.005, 200.0, SKIP, 1, None)
def test_after_any_outage_an_interval_is_in_step_and_its_last_ticks_are_published(
    pace, behind, missed, limit, deadline
):
    step, now = timedelta(seconds=pace), second(5_000_000)
    first = now - timedelta(seconds=behind)
    count = max(0, (now - first) // step + 1) if first <= now else 0
    last = [first + step * n for n in range(max(0, count - 3 * MOST), count)]
    edge = now - timedelta(seconds=GRACE)
    late = [tick for tick in last if tick < edge]
    in_time = [tick for tick in last if tick >= edge][-MOST:]
    expected = {ALL: late[-limit:] + in_time, ONCE: in_time or late[-1:], SKIP: in_time}[missed]
    if deadline is not None:
        expected = [tick for tick in expected if now - tick <= timedelta(seconds=deadline)]
    due = find_due(first, now, lambda tick: tick + step, missed, limit, deadline=deadline)
    assert due == (expected, first + step * count)


def test_grace_may_be_as_long_as_a_faster_clock_needs():
    due = find_due(START, second(3600), every(600), SKIP, grace=3600)
    assert due.ticks == [second(600 * number) for number in range(7)]
    assert find_due(START, second(3600), every(600), SKIP).ticks == [second(3600)]


def test_what_is_not_due_yet_stays_as_it_is():
    assert find_due(START, second(-1), every(1)) == ([], START)
