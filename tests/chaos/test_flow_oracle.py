"""The oracle of the rules finds what was broken, and nothing else."""

from __future__ import annotations

import pytest

from .flow_oracle import Held, Rule, most_at_once, most_from_bucket, most_within

SECOND = 1_000_000
RATE = Rule("rate/x", 2, SECOND, None, "window", "global")
BUCKET = Rule("rate/x", 10, SECOND, 2, "bucket", "global")


def held(started: float, ended: float | None = None, cost: int = 1) -> Held:
    begun = int(started * SECOND)
    end = begun + 1 if ended is None else int(ended * SECOND)
    return Held(1, 1, "node", "q", ["rate/x"], cost, begun, begun, end)


@pytest.mark.parametrize(
    ("times", "most"),
    [([0, 0.5, 1.0], 2), ([0, 0.5, 0.999], 3), ([0.999, 0, 0.5], 3), ([0, 2, 4], 1)],
)
def test_a_period_may_begin_anywhere(times: list[float], most: int) -> None:
    assert most_within(RATE, [held(at) for at in times]) == most


def test_a_start_takes_its_cost_and_no_more_than_there_ever_is() -> None:
    assert most_within(RATE, [held(0, cost=2)]) == 2
    assert most_within(RATE, [held(0, cost=9)]) == 2
    assert most_within(RATE, [held(0), held(0.5, cost=2)]) == 3


def test_a_bucket_holds_its_burst_and_is_refilled() -> None:
    assert most_from_bucket(BUCKET, [held(0), held(0), held(0.1), held(0.2)]) <= 0
    assert most_from_bucket(BUCKET, [held(0), held(0), held(0.09)]) > 0
    assert most_from_bucket(BUCKET, [held(0, cost=2), held(0.15, cost=2)]) > 0


def test_a_claim_lasts_until_the_moment_of_its_end() -> None:
    assert most_at_once([held(0, 1), held(1, 2)]) == 1
    assert most_at_once([held(0, 1.1), held(1, 2), held(1.05, 3)]) == 3
