"""Checks of values that people and programs write."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pgjobs_celery.job.checks import did_you_mean, is_number, is_whole_number


@pytest.mark.parametrize("value", [0, -1, 1.5, math.inf, math.nan])
def test_a_number_is_an_int_or_a_float(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [True, False, None, "1", 1j])
def test_a_truth_value_or_a_text_is_not_a_number(value: Any) -> None:
    assert not is_number(value)
    assert not is_whole_number(value, -10)


@pytest.mark.parametrize(
    ("value", "fits"), [(0, False), (1, True), (5, True), (6, False), (2.0, False)]
)
def test_a_whole_number_lies_between_its_bounds(value: Any, fits: bool) -> None:
    assert is_whole_number(value, 1, 5) is fits


def test_a_whole_number_without_an_upper_bound_may_be_large() -> None:
    assert is_whole_number(10**30, 0)


def test_the_nearest_known_name_is_suggested() -> None:
    assert did_you_mean("queu", ["queue", "task"]) == "; did you mean 'queue'?"
    assert did_you_mean("priority", ["queue", "task"]) == ""


def test_how_alike_names_must_be_can_be_chosen() -> None:
    assert did_you_mean("tag", ["tags"], 0.9) == ""
    assert did_you_mean("tag", ["tags"], 0.8) == "; did you mean 'tags'?"
