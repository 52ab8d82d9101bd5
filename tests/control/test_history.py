"""Percentiles come out of histograms, and failing tasks out of their buckets."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest

from pgjobs_celery.control.history import (
    BOUNDS,
    WINDOWS,
    Failing,
    Line,
    Measured,
    as_line,
    failing,
    join,
    percentile,
    times_of,
    window_named,
)
from pgjobs_celery.db.rows.history import HistoryLook, Period, Trace
from pgjobs_celery.errors import InvalidOption

NOW = datetime(2026, 11, 29, 22, 41, tzinfo=timezone.utc)
HOUR = WINDOWS["hour"]


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([], 0.5, None),
        ([0, 0, 0], 0.5, None),
        ([10], 0.5, 0.5),  # between 0 and 1
        ([0, 10], 0.5, 1.5),  # between 1 and 2
        ([0, 10], 1.0, 2.0),
        ([0, 10], 0.0, 1.0),
        ([5, 5], 0.5, 1.0),
        ([5, 0, 5], 0.5, 1.0),
        ([5, 0, 5], 0.75, 3.0),  # between 2 and 4
        ([1, 0, 99], 0.01, 1.0),
        ([0, 0, 0, 7], 0.5, 4.0),  # above the last bound: at least that
        ([9, 0, 0, 1], 0.99, 4.0),
        ([9, 0, 0, 1], 0.9, 1.0),
    ],
)
def test_a_percentile_is_read_from_counts(counts, share, value):
    found = percentile(counts, share, (1.0, 2.0, 4.0))
    assert found == (None if value is None else pytest.approx(value))


def test_a_percentile_lies_in_the_bucket_of_the_true_one():
    chance = random.Random(7)
    for _ in range(200):
        values = sorted(chance.lognormvariate(-2, 3) for _ in range(chance.randrange(1, 400)))
        counts = [0] * (len(BOUNDS) + 1)
        for value in values:
            counts[sum(value > bound for bound in BOUNDS)] += 1
        for share in (0.5, 0.95, 0.99):
            true = values[max(0, -int(-share * len(values) // 1) - 1)]
            found = percentile(counts, share)
            assert found is not None
            bucket = sum(true > bound for bound in BOUNDS)
            low = BOUNDS[bucket - 1] if bucket else 0.0
            high = BOUNDS[min(bucket, len(BOUNDS) - 1)]
            assert low <= found <= high or bucket == len(BOUNDS)


def test_percentiles_do_not_fall_as_the_share_grows():
    chance = random.Random(8)
    for _ in range(100):
        counts = [chance.choice((0, 0, 1, 5, 100)) for _ in range(len(BOUNDS) + 1)]
        found = [percentile(counts, step / 20) or 0.0 for step in range(21)]
        assert found == sorted(found)


def line(*buckets: tuple[int, int]) -> Line:
    """A task with (ended, failed) in its buckets, the last one now."""
    times = [NOW - timedelta(minutes=back) for back in reversed(range(len(buckets)))]
    ended, failed = zip(*buckets, strict=True)
    return Line("t", tuple(times), ended, failed, (None,) * len(buckets))


@pytest.mark.parametrize(
    ("buckets", "minutes", "counts"),
    [
        ([(10, 0)] * 9, None, None),
        ([(0, 0)] * 9, None, None),
        # It began four minutes ago.
        ([(10, 0)] * 5 + [(10, 5)] * 4, 3, (20, 40)),
        # Few of each bucket's jobs fail, and in some none does.
        ([(10, 0)] * 20 + [(5, 1), (5, 0), (5, 2), (0, 0), (5, 1)], 4, (4, 20)),
        # It is over: 40 went well since.
        ([(10, 5)] * 4 + [(10, 0)] * 4, None, None),
        # Two went well since: that tells nothing where half of them fail.
        ([(10, 0), (10, 5), (10, 5), (2, 0)], 2, (10, 22)),
        # What failed long before is another matter.
        ([(10, 9)] + [(50, 0)] * 5 + [(10, 4), (10, 4)], 1, (8, 20)),
        # Too few of them fail, or too few at all.
        ([(100, 1)] * 9, None, None),
        ([(10, 0), (2, 2)], None, None),
    ],
    ids=["well", "quiet", "half", "some", "over", "not over", "twice", "few", "two"],
)
def test_a_failing_task_is_known_with_its_beginning(buckets, minutes, counts):
    found = failing(line(*buckets))
    if minutes is None:
        assert found is None
        return
    assert found is not None
    assert found.since == NOW - timedelta(minutes=minutes)
    assert (found.failed, found.ended) == counts
    assert not found.is_older


def test_a_task_that_has_failed_all_the_time_may_have_begun_before():
    found = failing(line(*[(0, 0)] * 3, *[(4, 4)] * 3))
    assert found == Failing("t", NOW - timedelta(minutes=2), 12, 12, is_older=True)
    assert found.share == 1.0


def test_buckets_stand_in_order_and_without_gaps():
    look = HistoryLook(NOW, NOW + timedelta(seconds=30), NOW, None, NOW - timedelta(hours=2))
    parts = [
        (NOW - timedelta(minutes=2), Period(succeeded=1, waits=[1], ready=4)),
        (NOW, Period(failed=2, runs=[0, 2])),
        (NOW, Period(succeeded=3, runs=[1], ready=2)),
        (NOW + timedelta(minutes=1), Period(succeeded=100)),
        (NOW - timedelta(hours=9), Period(succeeded=100)),
    ]
    found = join(HOUR, look, parts)
    assert [point.at for point in found.points] == times_of(HOUR, NOW)
    assert [(each.succeeded, each.failed) for each in found.points[-3:]] == [(1, 0), (0, 0), (3, 2)]
    assert found.points[-1].period.runs == [1, 2]
    assert found.points[-1].ready == 2
    assert found.points[-2].failure_share is None
    assert (found.total.succeeded, found.total.failed, found.total.ready) == (4, 2, 4)
    assert found.age == 30.0


def test_a_line_has_all_buckets():
    times = times_of(HOUR, NOW)
    second = round(times[1].timestamp())
    found = as_line(Trace("q", [second], [5], [2], [9]), times)
    assert found.ended[:3] == (0, 5, 0)
    assert found.failed[:3] == (0, 2, 0)
    assert found.ready[:3] == (None, 9, None)
    found = as_line(Trace("q", [second], [5], [2], [9]), times, [False, True, True])
    assert found.ready[:3] == (None, 9, 0)


def test_nothing_has_no_percentile_and_no_share():
    nothing = Measured(Period())
    assert (nothing.wait(0.5), nothing.run(0.99), nothing.failure_share) == (None, None, None)
    assert nothing.mean_run is None


def test_an_unknown_window_is_named_with_its_neighbour():
    assert window_named("day").seconds == 86_400
    with pytest.raises(InvalidOption, match="did you mean 'week'"):
        window_named("weak")
