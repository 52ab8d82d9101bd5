"""The measure that says whether rates are kept counts right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sliding import most_within


def test_a_period_is_open_at_its_end():
    assert most_within([0.0, 9.9, 10.0], 10) == 2
    assert most_within([0.0, 9.9, 9.9], 10) == 3
    assert most_within([5.0], 10) == 1


@given(st.lists(st.integers(0, 60), min_size=1).map(sorted), st.integers(1, 20))
def test_it_finds_the_fullest_period(times, seconds):
    fullest = max(sum(at <= other < at + seconds for other in times) for at in times)
    assert most_within(times, seconds) == fullest
