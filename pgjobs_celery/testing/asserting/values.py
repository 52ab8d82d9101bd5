"""Does a value match what is expected, and if not, in what does it differ? Pure functions.

A value matches an equal one, and beyond that: ``unittest.mock.ANY`` anything, a type its instances,
a function what it says True to, a dict one that has at least these keys, a list or tuple one of the
same length, what a serializer changes (a UUID, an enum) what it makes of it.
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
    """What stands for no value at all, ``None`` being one."""

    def __repr__(self) -> str:
        return "nothing"

    def __bool__(self) -> bool:
        return False


NOTHING: Any = Nothing()

#: What JSON brings back as it was.
_PLAIN = (str, int, float, bool, type(None))


class Difference(NamedTuple):
    """One field in which a job is not as expected."""

    #: As one writes it: ``kwargs['user_id']``, ``queue``.
    field: str
    expected: Any
    got: Any
    #: What may help beside both values.
    hint: str = ""
    #: What a function raised that was to say whether it matches: nobody knows, then.
    error: Exception | None = None


def differences(expected: Any, got: Any, name: str) -> Iterator[Difference]:
    """In what one value is not as expected; nothing if it matches."""
    if _is_mock(expected):
        raise InvalidOption(
            f"{name or 'what is expected'} is {expected!r}: a mock says True to whatever it is "
            "asked, and no message has one; mock.ANY stands for any value"
        )
    # In depth, even where both are equal: to a list [1] is [True].
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
    # Whoever has one has loaded the module, which takes a while.
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
    """True for equal values, but for a number that is to be a truth value."""
    if (
        isinstance(expected, bool) is not isinstance(got, bool)
        and isinstance(got, (int, float))
        and isinstance(expected, (int, float))
    ):
        return False  # 1 == True, but no task takes the one for the other
    try:
        return bool(expected == got)
    except Exception:  # arrays and the like
        return False


def mapping_differences(expected: Mapping[Any, Any], got: Any, name: str) -> Iterator[Difference]:
    """What of the expected keys is missing or different."""
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
    """In what elements two sequences of one length differ."""
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
    """Nothing if the function says True to the value."""
    try:
        answer = expected(got)
        if not inspect.isawaitable(answer):
            if not answer:
                yield Difference(name, expected, got)
            return
    except Exception as error:  # of a value that it was not made for
        hint = f"raised {type(error).__name__}: {error}"
        yield Difference(name, expected, got, hint, error)
        return
    if inspect.iscoroutine(answer):
        answer.close()
    raise InvalidOption(f"{name} is asynchronous: what it gives is no answer, and always true")


def serialised(value: Any) -> Any:
    """What JSON makes of a value; the value itself where it makes nothing of it."""
    try:
        content_type, encoding, data = dumps(value, serializer="json")
        return loads(data, content_type, encoding)
    except Exception:
        return value
