"""Steps of a job: their names and kinds, what they wait for, and the addresses of signals. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from ..errors import InvalidOption
from .exceptions import seconds_from_now

#: How long the name of a step or of a signal, and a key, may be, in characters.
LONGEST = 200
#: In front of the number of a step whose name has been there before.
NUMBERED = "#"


class Kind(str, Enum):
    """The way in which a step has come about."""

    #: A function has returned.
    STEP = "step"
    #: A time is over that the job has slept for.
    SLEEP = "sleep"
    #: A signal has come.
    SIGNAL = "signal"
    #: A signal has not come in time.
    TIMEOUT = "timeout"
    #: The job had not begun when a change of the code was made.
    PATCH = "patch"


class Memory(NamedTuple):
    """The memory of a step: its kind and, encoded, the value that it has returned."""

    kind: Kind
    value: bytes | None = None
    value_type: str | None = None


class Wait(NamedTuple):
    """A sleep, or a wait for a signal: ``name`` is None for a sleep."""

    step: str
    name: str | None = None
    key: str | None = None
    #: For how many seconds at most, or until when; with neither for as long as it takes.
    delay: float | None = None
    until: datetime | None = None


class Key(str):
    """A key, as the address of a signal: that of the job which waits with it.

    >>> signal(app, Key("order-42"), "paid")
    """

    __slots__ = ()


class Signal(NamedTuple):
    """A signal as its row has it; to a task id or to a key."""

    task_id: str | None
    key: str | None
    name: str
    payload: bytes | None = None
    payload_type: str | None = None


class Names:
    """The names of the steps of one run: a repeated one gets a number, in the order of the run."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def number(self, name: str) -> str:
        """``charge``, then ``charge#2``. Raises InvalidOption for what cannot be a name."""
        check_name(name, "the name of a step")
        if NUMBERED in name:
            raise InvalidOption(
                f"the name of a step has no {NUMBERED!r}, which comes before its number: {name!r}"
            )
        numbered = self.upcoming(name)
        self._counts[name] += 1
        return numbered

    def upcoming(self, name: str) -> str:
        """The name of the next step that is called so."""
        count = self._counts[name] + 1
        return name if count == 1 else f"{name}{NUMBERED}{count}"


def check_name(name: Any, what: str) -> str:
    """The name; raises InvalidOption unless it is a text that the database can hold."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST or not _is_storable(name):
        raise InvalidOption(f"{what} is a text of 1 to {LONGEST} characters, not {name!r:.80}")
    return str(name)


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def time_of(when: datetime) -> datetime:
    """The time; raises InvalidOption for one without a time zone."""
    if not isinstance(when, datetime) or when.tzinfo is None:
        raise InvalidOption(f"sleep_until() needs a time with a time zone, not {when!r}")
    return when


def timeout_of(timeout: float | timedelta | None, what: str) -> float | None:
    """The same in seconds; None for none. Raises InvalidOption."""
    if timeout is None:
        return None
    if isinstance(timeout, datetime):
        raise InvalidOption(f"{what} needs seconds or a timedelta, not {timeout!r}")
    return seconds_from_now(timeout, what)
