"""The filters' vocabulary: what is taken, what is refused, and what two of them mean together."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from pgjobs_celery.control.filters import FILTERS, Filters
from pgjobs_celery.errors import InvalidOption, UnknownOption
from pgjobs_celery.job.states import FINAL, State


def narrowed(*steps: dict[str, Any]) -> dict[str, Any]:
    """What the statement gets; what was not given is left out."""
    filters = Filters()
    for step in steps:
        filters = filters.narrow(**step)
    return {name: value for name, value in filters.parameters().items() if value is not None}


TASK = SimpleNamespace(name="tasks.add")
ID = "6c8b3c1e-2b9c-4f57-9f0e-2f8c4a1d0b11"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"id": ID}, {"id": [ID]}),
        ({"id": UUID(ID)}, {"id": [ID]}),
        ({"id": SimpleNamespace(task_id=ID)}, {"id": [ID]}),
        ({"id": {"b", "a"}}, {"id": ["a", "b"]}),
        ({"task": TASK}, {"task": ["tasks.add"]}),
        ({"task": [TASK, "x"]}, {"task": ["tasks.add", "x"]}),
        ({"queue": ("mail",)}, {"queue": ["mail"]}),
        ({"state": "available"}, {"state": ["available"], "is_finished": False, "is_due": False}),
        (
            {"state": State.RETRYABLE},
            {"state": ["retryable"], "is_finished": False, "is_due": True},
        ),
        ({"state": ["scheduled", "available"]},
         {"state": ["available", "scheduled"], "is_finished": False}),
        ({"state": FINAL}, {"state": sorted(FINAL), "is_finished": True}),
        ({"state": ["available", "completed"]}, {"state": ["available", "completed"]}),
        ({"tags": [" Mail", "urgent"]}, {"tags": ["mail", "urgent"]}),
        ({"tags": "mail"}, {"tags": ["mail"]}),
        ({"args": (7,)}, {"args": "[7]"}),
        ({"kwargs": {"user_id": 7}}, {"kwargs": '{"user_id": 7}'}),
        ({"meta": {"a": "\\u0000"}}, {"meta": '{"a": "\\\\u0000"}'}),
        ({"attempt": 3}, {"attempt": [3]}),
        ({"attempt": range(2, 5)}, {"attempt_from": 2, "attempt_to": 4}),
        ({"attempt": range(-3, 10**12)}, {"attempt_from": 0, "attempt_to": 2**31 - 1}),
        ({"older_than": timedelta(minutes=1)}, {"older_than": 60.0}),
        ({"finished_after": 0}, {"finished_after": 0.0}),
        ({"worker": "celery@web1"}, {"worker": ["celery@web1"]}),
        ({"group": ID, "parent": UUID(ID)}, {"group": [ID], "parent": [ID]}),
        ({"root": ID}, {"root": [ID]}),
        ({"lane": "rate/queue/mail=7\nshare=7"}, {"lane": ["rate/queue/mail=7", "share=7"]}),
        ({"lane": ["share", "pause/tag/x"]}, {"lane": ["pause/tag/x", "share"]}),
        ({"key": [7, "a"]}, {"key": ["7", "a"]}),
    ],
)  # fmt: skip
def test_a_filter_takes_what_names_the_thing(given, taken):
    assert narrowed(given) == taken


def test_dates_and_uuids_are_looked_for_as_celery_writes_them():
    found = narrowed({"kwargs": {"id": UUID(ID), "at": datetime(2027, 1, 1, tzinfo=timezone.utc)}})
    assert '"__type__": "uuid"' in found["kwargs"]
    assert '"__type__": "datetime"' in found["kwargs"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"state": "scheduld"}, "did you mean 'scheduled'?"),
        ({"state": "WAITING"}, "there is no state 'WAITING'"),
        ({"id": 7}, "not the row's"),
        ({"id": "a\x00"}, "NUL"),
        ({"queue": 7}, "queue must be text"),
        ({"queue": "\ud800"}, "valid Unicode"),
        ({"task": None}, "leave the filter out"),
        ({"tags": []}, "must not be empty"),
        ({"tags": [" "]}, "must not be empty"),
        ({"args": 7}, "args must be a list"),
        ({"args": "ab"}, "args must be a list"),
        ({"args": []}, "every job contains that"),
        ({"kwargs": [1]}, "kwargs must be a dict"),
        ({"kwargs": {}}, "must not be empty"),
        ({"kwargs": {"a": object()}}, "cannot be written as JSON"),
        ({"kwargs": {"a": float("nan")}}, "cannot be written as JSON"),
        ({"kwargs": {"a": "\ud800"}}, "cannot be written as JSON"),
        ({"kwargs": {"a": "x\x00"}}, "no NUL character"),
        ({"meta": {"\x00": 1}}, "no NUL character"),
        ({"attempt": "3"}, "whole number or a range"),
        ({"attempt": True}, "whole number or a range"),
        ({"attempt": -1}, "between 0 and"),
        ({"attempt": range(0, 9, 2)}, "without gaps"),
        ({"older_than": -1}, "between 0 and"),
        ({"lane": []}, "must not be empty"),
        ({"lane": "mail"}, "such as rate/queue/mail or"),
        ({"lane": "shares=7"}, "such as rate/queue/mail or"),
        ({"key": ""}, "must not be ''"),
        ({"key": [None]}, "must not be None"),
        ({"newer_than": float("nan")}, "between 0 and"),
        ({"finished_before": float("inf")}, "between 0 and"),
        ({"older_than": "2h"}, "seconds or a timedelta"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(given, complaint):
    with pytest.raises(InvalidOption) as raised:
        Filters().narrow(**given)
    assert complaint in str(raised.value)


def test_an_unknown_filter_is_named_with_the_nearest():
    with pytest.raises(UnknownOption, match="no filter 'quue'; did you mean 'queue'"):
        Filters().narrow(quue="mail")


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ({"queue": ["a", "b"]}, {"queue": ["b", "c"]}, {"queue": ["b"]}),
        ({"tags": "a"}, {"tags": "b"}, {"tags": ["a", "b"]}),
        ({"lane": "rate/a"}, {"lane": "share"}, {"lane": ["rate/a", "share"]}),
        ({"key": [7, 8]}, {"key": "8"}, {"key": ["8"]}),
        ({"args": [1]}, {"args": [2]}, {"args": "[1, 2]"}),
        ({"kwargs": {"a": 1}}, {"kwargs": {"a": 1, "b": 2}}, {"kwargs": '{"a": 1, "b": 2}'}),
        ({"attempt": range(2, 9)}, {"attempt": range(4, 20)}, {"attempt_from": 4, "attempt_to": 8}),
        ({"attempt": range(2, 9)}, {"attempt": [1, 2, 3]}, {"attempt": [2, 3]}),
        ({"older_than": 60}, {"older_than": 30}, {"older_than": 60.0}),
        ({"newer_than": 60}, {"newer_than": 30}, {"newer_than": 30.0}),
    ],
)
def test_a_filter_that_is_given_twice_holds_twice(first, second, both):
    assert narrowed(first, second) == both
    assert narrowed(second, first).keys() == both.keys()


def test_two_values_that_no_job_can_have_are_refused_or_are_no_job():
    with pytest.raises(InvalidOption, match="'a' cannot be 1 and 2"):
        Filters().narrow(kwargs={"a": 1}).narrow(kwargs={"a": 2})
    assert Filters().narrow(queue="a").narrow(queue="b").is_impossible
    assert Filters().narrow(id=[]).is_impossible
    assert not Filters().is_impossible


def test_filters_do_not_change_with_what_was_given():
    given = {"a": {"b": 1}}
    filters = Filters().narrow(kwargs=given)
    given["a"]["b"] = 2
    assert filters.parameters()["kwargs"] == '{"a": {"b": 1}}'
    filters.narrow(queue="x")
    assert filters.parameters()["queue"] is None


@pytest.mark.parametrize(
    ("given", "uses_index"),
    [
        ({}, True),
        ({"id": "a"}, True),
        ({"task": "a", "state": ["available", "executing"]}, True),
        ({"finished_after": 60}, True),
        ({"root": "a"}, True),
        ({"task": "a"}, False),
        ({"state": "completed"}, False),
        ({"older_than": 60}, False),
    ],
)
def test_it_is_known_whether_an_index_helps(given, uses_index):
    assert Filters().narrow(**given).uses_index is uses_index


def test_every_filter_can_be_shown():
    filters = Filters().narrow(state="available", queue=["b", "a"], kwargs={"a": 1})
    assert str(filters) == "state='available', queue=['a', 'b'], kwargs={'a': 1}"
    assert {"id", "worker"} <= FILTERS.keys()
