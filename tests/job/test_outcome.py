"""What becomes of a job is a value, and its error is JSON that PostgreSQL can hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgjobs_celery.job.outcome import (
    MESSAGE_LIMIT,
    TRACEBACK_LIMIT,
    Outcome,
    Result,
    clean_text,
    completed,
    discarded,
    error_entry,
    error_from,
    released,
    requeued,
    shorten,
)
from pgjobs_celery.job.rows import ClaimKey
from pgjobs_celery.job.states import State

#: NUL and halves of letters included.
anything = st.text(st.characters(), max_size=50)


def holds(text: str) -> bool:
    """True if jsonb takes it."""
    return "\0" not in text and "\\u0000" not in text.replace("\\\\", "") and _is_unicode(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_each_decision_says_what_is_to_be_written():
    claim = ClaimKey(1, 2)
    result = Result("a", b"1", "json", None, None, None)
    assert completed(claim) == Outcome(1, 2, State.COMPLETED)
    assert completed(claim, result) == Outcome(1, 2, State.COMPLETED, result=result, awaited="a")
    assert discarded(claim, "{}") == Outcome(1, 2, State.DISCARDED, "{}")
    assert released(claim) == Outcome(1, 2, State.AVAILABLE, counts=False)
    assert requeued(claim) == Outcome(1, 2, State.AVAILABLE, counts=True)


@given(anything, anything, st.none() | anything, st.none() | anything)
def test_an_entry_is_json_that_postgresql_can_hold_whatever_is_in_it(kind, message, trace, module):
    text = error_entry(kind, message, trace, module)
    entry = json.loads(text)
    assert holds(text)
    assert all(holds(value) for value in entry.values())
    assert entry["type"] == clean_text(kind)
    assert set(entry) - {"frame"} == {"type", "message", "cause"} | (
        {"module"} if module else set()
    ) | ({"traceback"} if trace else set())


@given(anything)
def test_clean_text_leaves_alone_what_can_be_stored(text):
    assert holds(clean_text(text))
    if "\0" not in text and _is_unicode(text):
        assert clean_text(text) == text


@given(st.text(max_size=300), st.integers(10, 200))
def test_a_text_keeps_its_beginning_and_its_end(text, limit):
    short = shorten(text, limit)
    if len(text) <= limit:
        assert short == text
    else:
        assert short.startswith(text[: limit // 3])
        assert short.endswith(text[-(limit - limit // 3) :])
        assert f"{len(text) - limit} characters left out" in short


def test_a_long_error_is_bounded():
    entry = json.loads(error_entry("E", "m" * 10**6, "t" * 10**6))
    assert len(entry["message"]) < MESSAGE_LIMIT + 100
    assert len(entry["traceback"]) < TRACEBACK_LIMIT + 100


class Outer:
    class Inner(ValueError):
        pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "kind", "message", "module"),
    [
        (KeyError("x"), "KeyError", "'x'", "builtins"),
        (Outer.Inner("in"), "Outer.Inner", "in", __name__),
        (Unprintable(), "Unprintable", "<unprintable Unprintable: RuntimeError>", __name__),
        (KeyboardInterrupt(), "KeyboardInterrupt", "", "builtins"),
    ],
)
def test_an_exception_says_what_it_is(error, kind, message, module):
    entry = json.loads(error_from(error, "Traceback"))
    assert len(entry.pop("cause")) == 16
    assert entry == {"type": kind, "message": message, "module": module, "traceback": "Traceback"}
