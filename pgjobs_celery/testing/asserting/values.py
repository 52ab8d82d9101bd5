"""Match a value with the expected one, and list the differences. Pure functions.

An expected value matches an equal one. Besides, ``unittest.mock.ANY`` matches anything, a type its
instances, a function the values for which it returns True, a dict one that has at least these keys,
a list or tuple one of the same length, and a value that a serializer changes (a UUID, an enum) its
serialised form.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kombu.serialization import dumps, loads

from ...errors import InvalidOption
from ...job.checks import did_you_mean


class Nothing:
    """Marks the absence of a value, because ``None`` is one."""

    def __repr__(self) -> str:
        return "nothing"

    def __bool__(self) -> bool:
        return False


NOTHING: Any = Nothing()

#: Types that JSON returns unchanged.
_PLAIN = (str, int, float, bool, type(None))


class Difference(NamedTuple):
    """One field in which a job is not as expected."""

    #: Its path: ``kwargs['user_id']``, ``queue``.
    field: str
    expected: Any
    got: Any
    #: A hint besides both values.
    hint: str = ""
    #: The exception of a function that should have decided: the match is unknown.
    error: Exception | None = None


def differences(expected: Any, got: Any, name: str) -> Iterator[Difference]:
    """The differences of one value; none if it matches."""
    if _is_mock(expected):
        raise InvalidOption(
            f"{name or 'what is expected'} is {expected!r}: a mock returns True for whatever it is "
            "asked, and no message has one; mock.ANY stands for any value"
        )
    # In depth, even if both are equal: Python calls [1] equal to [True].
    if isinstance(expected, Mapping):
        yield from mapping_differences(expected, got, name)
        return
    if isinstance(expected, (list, tuple)):
        yield from sequence_differences(expected, got, name)
        return
    if equal(expected, got):
        return
    if type(expected) not in _PLAIN and callable(expected) and not isinstance(expected, type):
        yield from predicate_differences(expected, got, name)
    elif not _is_alike(expected, got):
        compare: Any = type(expected).__eq__
        is_value = type(expected) in _PLAIN or isinstance(expected, type)
        if compare is object.__eq__ and not is_value and serialised(expected) is expected:
            raise InvalidOption(
                f"{name or 'what is expected'} is {expected!r:.200}, which is equal to itself only "
                "and cannot be serialised: no job can have it; did you mean its id, or a value?"
            )
        yield Difference(name, expected, got)


def _is_mock(value: Any) -> bool:
    # A program with a mock has loaded the module; loading it here would take a while.
    mock = sys.modules.get("unittest.mock")
    return mock is not None and isinstance(value, mock.NonCallableMock)


def _is_alike(expected: Any, got: Any) -> bool:
    if type(expected) in _PLAIN:
        return False
    if isinstance(expected, type):
        return isinstance(got, expected)
    if isinstance(expected, (set, frozenset)):
        many = (list, tuple, set, frozenset)
        return isinstance(got, many) and _same_members(expected, got)
    return equal(serialised(expected), got)


def matches(expected: Any, got: Any) -> bool:
    """True if the value is as expected."""
    return next(differences(expected, got, ""), None) is None


def equal(expected: Any, got: Any) -> bool:
    """True for equal values; False for a number in place of a truth value."""
    if (
        isinstance(expected, bool) is not isinstance(got, bool)
        and isinstance(got, (int, float))
        and isinstance(expected, (int, float))
    ):
        return False  # 1 == True, but to a task they differ
    try:
        return bool(expected == got)
    except Exception:  # arrays and the like
        return False


def mapping_differences(expected: Mapping[Any, Any], got: Any, name: str) -> Iterator[Difference]:
    """The expected keys that are missing or different."""
    if not isinstance(got, Mapping):
        yield Difference(name, expected, got)
        return
    for key, value in expected.items():
        # JSON has only texts for keys.
        found = got.get(key, got.get(str(key), NOTHING))
        where = f"{name}[{key!r}]"
        if found is NOTHING:
            hint = did_you_mean(str(key), [str(each) for each in got]).lstrip("; ")
            yield Difference(where, value, NOTHING, hint)
        else:
            yield from differences(value, found, where)


def sequence_differences(expected: Sequence[Any], got: Any, name: str) -> Iterator[Difference]:
    """The differing elements of two sequences of the same length."""
    if not isinstance(got, (list, tuple)) or len(got) != len(expected):
        yield Difference(name, expected, got)
        return
    for index, (value, found) in enumerate(zip(expected, got, strict=True)):
        yield from differences(value, found, f"{name}[{index}]")


def _same_members(expected: Any, got: Any) -> bool:
    return len(expected) == len(got) and all(any(equal(e, g) for g in got) for e in expected)


def predicate_differences(
    expected: Callable[[Any], Any], got: Any, name: str
) -> Iterator[Difference]:
    """No difference if the function returns True for the value."""
    try:
        answer = expected(got)
        if not inspect.isawaitable(answer):
            if not answer:
                yield Difference(name, expected, got)
            return
    except Exception as error:  # it was not made for this value
        hint = f"raised {type(error).__name__}: {error}"
        yield Difference(name, expected, got, hint, error)
        return
    if inspect.iscoroutine(answer):
        answer.close()
    raise InvalidOption(f"{name} is asynchronous: it returns a coroutine, which is always true")


def serialised(value: Any) -> Any:
    """A value after a round trip through JSON; the value itself if JSON cannot hold it."""
    try:
        content_type, encoding, data = dumps(value, serializer="json")
        return loads(data, content_type, encoding)
    except Exception:
        return value
