"""Matching, by properties: whatever the values are."""

from __future__ import annotations

import inspect
import json
from typing import Any
from unittest.mock import ANY

from hypothesis import given
from hypothesis import strategies as st

from pgjobs_celery.testing.asserting.matching import Expected, bind
from pgjobs_celery.testing.asserting.report import show
from pgjobs_celery.testing.asserting.values import differences, matches
from pgjobs_celery.testing.capturing.capture import Enqueued

plain = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def task(a: Any, b: Any = 2, *, c: Any = 3) -> None: ...


SIGNATURE = inspect.signature(task)


def job(args: list[Any], kwargs: dict[str, Any]) -> Enqueued:
    return Enqueued("1", "proj.task", args, kwargs, "celery")


def wanted(**words: Any) -> Expected:
    return Expected("proj.task", SIGNATURE, **words)


@given(values)
def test_a_value_matches_itself_and_anything_matches_any(value: Any):
    assert matches(value, value)
    assert matches(value, json.loads(json.dumps(value)))
    assert matches(ANY, value)
    assert matches(lambda _: True, value)
    assert not matches(lambda _: False, value)


@given(values, values)
def test_there_are_differences_exactly_where_it_does_not_match(one: Any, other: Any):
    assert matches(one, other) is not bool(list(differences(one, other, "x")))


@given(st.dictionaries(st.text(), values, max_size=5), st.data())
def test_a_part_of_a_mapping_matches_it(mapping: dict[str, Any], data: Any):
    part = {key: value for key, value in mapping.items() if data.draw(st.booleans())}
    assert matches(part, mapping)
    assert matches({"outer": part}, {"outer": mapping, "more": 1})


@given(st.dictionaries(st.text(), values), st.text(), values)
def test_a_key_that_is_not_there_does_not_match(mapping: dict[str, Any], key: str, value: Any):
    mapping.pop(key, None)
    [found] = differences({key: value}, mapping, "x")
    assert found.field == f"x[{key!r}]"


@given(plain, plain, plain, st.booleans(), st.booleans())
def test_it_makes_no_difference_how_arguments_are_passed(
    a: Any, b: Any, c: Any, by_name: bool, expected_by_name: bool
):
    there = job([], {"a": a, "b": b, "c": c}) if by_name else job([a, b], {"c": c})
    if expected_by_name:
        words: dict[str, Any] = {"kwargs": {"a": a, "b": b, "c": c}}
    else:
        words = {"args": [a, b], "kwargs": {"c": c}}
    assert wanted(**words).matches(there)
    assert wanted(**words).select([there]) == [there]


@given(values, values, values)
def test_to_select_is_to_match_each(a: Any, b: Any, other: Any):
    there = [job([a], {}), job([b], {}), job([], {"a": other}), job([a, b], {})]
    for words in ({"args": [a]}, {"kwargs": {"a": a}}, {"args": [a, ...]}):
        expected = wanted(**words)
        assert expected.select(there) == [each for each in there if expected.matches(each)]


@given(values, values)
def test_what_matches_has_no_distance_and_what_does_not_has(a: Any, b: Any):
    expected = wanted(args=[a])
    there = job([b], {})
    assert (expected.distance(there) == 0) is expected.matches(there)
    assert expected.distance(there) < Expected("other", SIGNATURE, args=[a]).distance(there)


@given(st.lists(plain, max_size=5), st.dictionaries(st.sampled_from("abcd"), plain))
def test_arguments_that_do_not_fit_are_compared_as_they_are(args: Any, kwargs: Any):
    there = job(args, kwargs)
    assert wanted(args=args, kwargs=kwargs).matches(there)
    if bind(SIGNATURE, args, kwargs) is None:
        assert not wanted(args=[*args, 1], kwargs=kwargs).matches(there)


@given(values)
def test_a_value_is_shown_in_one_short_line(value: Any):
    assert len(show(value)) <= 90
    assert "\n" not in show(value)


def test_a_truth_value_is_no_number():
    assert not matches(True, 1)
    assert not matches(0, False)
    assert matches(1, 1.0)


def test_what_cannot_be_compared_is_shown_all_the_same():
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("no")

        __hash__ = None  # type: ignore[assignment]

        def __repr__(self) -> str:
            raise ValueError("no")

    [found] = differences(Odd(), 1, "x")
    assert show(found.expected) == "<Odd, whose repr raises ValueError>"
