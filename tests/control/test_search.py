"""Searches: what a line of text means, what is wrong with it, and its one canonical form."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgjobs_celery.cli.filters import FILTER_OPTIONS
from pgjobs_celery.control.filters import FILTERS, Filters
from pgjobs_celery.control.search import (
    LONGEST,
    InvalidSearch,
    Search,
    parse,
    paths,
    write,
    write_word,
)
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.job.options import MOST_ATTEMPTS
from pgjobs_celery.job.states import BY_CELERY_NAME, State


def meant(text: str) -> dict[str, Any]:
    return dict(parse(text).filters.given)


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", {}),
        ("  \n\t ", {}),
        ("state:discarded", {"state": "discarded"}),
        ("state:discarded,cancelled", {"state": ["discarded", "cancelled"]}),
        ("state:FAILURE", {"state": "discarded"}),
        ("task:mail.send queue:mail", {"task": "mail.send", "queue": "mail"}),
        ("queue:a queue:b", {"queue": ["a", "b"]}),
        ("tags:vip tag:EU", {"tags": ["vip", "eu"]}),
        ("tags:vip,eu", {"tags": ["vip", "eu"]}),
        ('queue:"with space","a,b"', {"queue": ["with space", "a,b"]}),
        ('task:"say \\"hi\\""', {"task": 'say "hi"'}),
        ('task:""', {"task": ""}),
        ("kwargs.user_id:7", {"kwargs": {"user_id": 7}}),
        ('kwargs.user_id:"7"', {"kwargs": {"user_id": "7"}}),
        ("kwargs.name:Ann", {"kwargs": {"name": "Ann"}}),
        ('kwargs.name:"Ann Lee"', {"kwargs": {"name": "Ann Lee"}}),
        ("kwargs.a.b:true kwargs.a.c:null", {"kwargs": {"a": {"b": True, "c": None}}}),
        ('kwargs."a.b":1', {"kwargs": {"a.b": 1}}),
        ("kwargs.list:[1,2]", {"kwargs": {"list": [1, 2]}}),
        ("kwargs.list:[1, 2] x", {"kwargs": {"list": [1, 2]}}),
        ('kwargs:{"user_id": 7}', {"kwargs": {"user_id": 7}}),
        ("kwargs.big:1180591620717411303424", {"kwargs": {"big": 2**70}}),
        ("kwargs.x:NaN", {"kwargs": {"x": "NaN"}}),
        ("kwargs.x:a,b", {"kwargs": {"x": "a,b"}}),
        ("kwargs.url:https://x/?a=1", {"kwargs": {"url": "https://x/?a=1"}}),
        ("args:7", {"args": [7]}),
        ("args:[7, 8]", {"args": [7, 8]}),
        ("args:a args:b", {"args": ["a", "b"]}),
        ("meta.done:5", {"meta": {"done": 5}}),
        ("stamps.release:7", {"stamps": {"release": 7}}),
        ('stamps.release:[7,"8"]', {"stamps": {"release": [7, "8"]}}),
        ("attempt:3", {"attempt": 3}),
        ("attempt:1,4", {"attempt": [1, 4]}),
        ("attempt:2-5", {"attempt": range(2, 6)}),
        ("attempt:2-", {"attempt": range(2, MOST_ATTEMPTS + 1)}),
        ("newer_than:1h", {"newer_than": 3600}),
        ("Newer-Than:90", {"newer_than": 90}),
        ("newer_than:1h newer_than:30m", {"newer_than": 1800}),
        ("finished_after:1.5d older_than:0", {"finished_after": 129_600, "older_than": 0}),
        ("worker:celery@web1", {"worker": "celery@web1"}),
        ("id:a,b parent:c root:d group:e", {"id": ["a", "b"], "parent": "c", "root": "d",
                                            "group": "e"}),
        ("task:\u202eevil", {"task": "\u202eevil"}),
        ("task:مهمة", {"task": "مهمة"}),
        ("task:100%_of", {"task": "100%_of"}),
    ],
)  # fmt: skip
def test_a_text_means_the_same_filters_as_in_python(text, filters):
    assert meant(text) == Filters().narrow(**filters).given


@pytest.mark.parametrize(
    ("text", "beginnings"),
    [
        ("6c8b3c1e", ("6c8b3c1e",)),
        ("a b a", ("a", "b")),
        ('state:discarded 6c "with space"', ("6c", "with space")),
        ('"state:discarded"', ("state:discarded",)),
        ("7:30", ("7:30",)),
        (":x", (":x",)),
        ("mail.send", ("mail.send",)),
        ("a'b;--", ("a'b;--",)),
    ],
)
def test_a_word_without_a_name_is_the_beginning_of_an_id(text, beginnings):
    assert parse(text).beginnings == beginnings


def complaint_of_nesting(text: str) -> str:
    """How deep Python reads depends on its release: some read deeper than a search may be long."""
    try:
        json.loads(text)
    except RecursionError:
        return "nested"
    except ValueError:
        return "not complete as JSON"
    raise AssertionError(text)


DEEP = "[" * 2000


@pytest.mark.parametrize(
    ("text", "word", "complaint"),
    [
        ("queue:a stat:discarded x", "stat:discarded", "no filter 'stat'; did you mean 'state'?"),
        ("xyzzy:1", "xyzzy:1", "an id with a colon needs quotes"),
        ("state:discarde", "state:discarde", "did you mean 'discarded'?"),
        ("state:", "state:", "needs a value"),
        ("state: discarded", "state:", "needs a value"),
        ("queue:a,,b", "queue:a,,b", "missing beside a comma"),
        ("queue:a, b", "queue:a,", "missing beside a comma"),
        ('queue:"a', 'queue:"a', "not complete as JSON"),
        ('queue:a"b c', 'queue:a"b', "a quote or a comma stands where it cannot"),
        ('queue:"a"b', 'queue:"a"b', "a quote or a comma stands where it cannot"),
        ("queue.x:1", "queue.x:1", "takes no path"),
        ("kwargs:7", "kwargs:7", "must be a dict"),
        ("kwargs.a:{", "kwargs.a:{", "not complete as JSON"),
        ("kwargs.a:" + DEEP, "kwargs.a:[", complaint_of_nesting(DEEP)),
        ("kwargs.a:1 kwargs.a:2", "kwargs.a:2", "cannot be 1 and 2 at once"),
        ("kwargs.a:1e999", "kwargs.a:1e999", "cannot be written as JSON"),
        ('kwargs.a:"\\u0000"', 'kwargs.a:"', "no NUL"),
        ("task:a\x00b", "task:a\x00b", "NUL"),
        ("a\x00b", "a\x00b", "NUL"),
        ("\ud800", "\ud800", "valid Unicode"),
        ("task:\ud800", "task:\ud800", "valid Unicode"),
        ('""', '""', "must not be empty"),
        ("tags:,", "tags:,", "missing beside a comma"),
        ('tags:" "', 'tags:" "', "must not be empty"),
        ("newer_than:soon", "newer_than:soon", "write 90, 15m, 2h or 3d"),
        ("newer_than:-1", "newer_than:-1", "write 90, 15m, 2h or 3d"),
        ("newer_than:99999999999w", "newer_than:99999999999w", "between 0 and"),
        ("attempt:many", "attempt:many", "write 3, 1,4, 2-5 or 2-"),
        ("attempt:9999999999", "attempt:9999999999", "between 0 and"),
        ("args:{", "args:{", "not complete as JSON"),
        ("x" * (LONGEST + 1), "", "4,000 characters, not 4,001"),
    ],
)
def test_an_error_points_at_the_word(text, word, complaint):
    with pytest.raises(InvalidSearch) as raised:
        parse(text)
    error = raised.value
    assert complaint in error.complaint
    assert error.word.startswith(word)
    assert text[error.at : error.at + len(error.word)] == error.word
    assert len(str(error)) < 400
    assert pickle.loads(pickle.dumps(error)).word == error.word


def test_every_filter_is_in_the_vocabulary_of_all_three():
    assert set(FILTER_OPTIONS) == set(FILTERS)
    for name in FILTERS:
        with pytest.raises(InvalidSearch, match="needs a value"):
            parse(f"{name}:")


def test_filters_that_no_job_can_meet_are_no_text():
    with pytest.raises(InvalidOption, match="none at all"):
        write(Search(Filters().narrow(id=[])))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
#: Texts with what the grammar is made of.
WORDS = TEXT | st.text('ab:.,"\\[]{} 7-', max_size=8)
NAMES = st.lists(WORDS, min_size=1, max_size=3, unique=True)
TAGS = WORDS.filter(lambda text: 0 < len(text.strip().lower()) < 255)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | WORDS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
OBJECTS = st.dictionaries(WORDS, JSON, min_size=1, max_size=3)
AGES = st.floats(0, 10.0**11) | st.integers(0, 10**11)
NUMBERS = st.integers(0, MOST_ATTEMPTS)
SPANS = st.tuples(NUMBERS, NUMBERS).map(lambda two: range(min(two), max(two) + 1))
VALUES: dict[str, Any] = {
    "state": st.lists(st.sampled_from([*State, *BY_CELERY_NAME]), min_size=1, max_size=3),
    "tags": st.lists(TAGS, min_size=1, max_size=3),
    "args": st.lists(JSON, min_size=1, max_size=3),
    **dict.fromkeys(("kwargs", "meta", "stamps"), OBJECTS),
    "attempt": SPANS | st.lists(NUMBERS, min_size=1, max_size=3),
    "lane": st.lists(
        st.builds(
            "{}{}".format,
            st.sampled_from(["rate/x", "running/y=", "share=", "pause/task/z"]),
            WORDS,
        ),
        min_size=1,
        max_size=3,
    ),
    "key": st.lists(WORDS.filter(bool), min_size=1, max_size=3),
    **dict.fromkeys(("older_than", "newer_than", "finished_before", "finished_after"), AGES),
}
GIVEN = st.fixed_dictionaries({}, optional={name: VALUES.get(name, NAMES) for name in FILTERS})


def possible(given: dict[str, Any]) -> Filters | None:
    try:
        return Filters().narrow(**given)
    except InvalidOption:
        return None


FILTERED = GIVEN.map(possible).filter(lambda filters: filters is not None)
SEARCHES = st.builds(
    Search,
    FILTERED,
    st.lists(WORDS.filter(bool), max_size=2, unique=True).map(tuple),
)


@given(SEARCHES)
def test_what_is_written_is_read_as_the_same(search):
    text = write(search)
    again = parse(text) if len(text) <= LONGEST else search
    assert again.filters.parameters() == search.filters.parameters()
    assert again.beginnings == search.beginnings
    assert write(again) == text


@given(st.text(max_size=60) | st.text('state:kwargs.queue"\\[]{},- 7', max_size=40))
def test_no_text_does_anything_but_mean_something_or_be_refused(text):
    error, search = None, Search()
    try:
        search = parse(text)
    except InvalidSearch as raised:
        error = raised
    if error is None:
        assert search.filters.is_impossible or parse(write(search)) == search
    else:
        assert error.complaint
        assert text[error.at : error.at + len(error.word)] == error.word


@given(OBJECTS)
def test_a_suggested_path_is_part_of_a_word(given):
    for path in paths("kwargs", given):
        parse(f"{path}:7")


def test_a_word_for_what_is_in_a_row():
    assert write_word("task", "a b") == 'task:"a b"'
    assert write_word("tags", "vip") == "tags:vip"
