"""Which jobs are meant: one vocabulary for Python, the command line and tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from kombu.utils import json as kombu_json

from ..errors import InvalidOption, UnknownOption
from ..job.checks import did_you_mean, is_number
from ..job.fingerprint import type_of
from ..job.flow import PAUSE, RATE, RUNNING, SHARE, key_text
from ..job.idempotency import check_key
from ..job.options import MOST_ATTEMPTS, check_text, normalise_tags
from ..job.states import BY_CELERY_NAME, FINAL, State

#: The greatest age, in seconds: PostgreSQL has no earlier dates.
GREATEST_AGE = 10.0**11

#: The states with a due time; of those that are not final the others may run, or do.
DUE = frozenset({State.SCHEDULED, State.RETRYABLE})

#: Filters that an index of ours leads to.
INDEXED = frozenset(
    {"id", "root", "finished_before", "finished_after", "error", "fingerprint", "idempotency_key"}
)

#: How many characters of the filters the audit keeps.
LONGEST_WORDS = 2000

_MANY = (list, tuple, set, frozenset)
_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Filter(NamedTuple):
    """One word of the vocabulary."""

    #: From what was given, under which name, to what the statement takes. Raises InvalidOption.
    read: Callable[[str, Any], Any]
    #: Combines two values that must both hold. Raises InvalidOption if no job can meet both.
    both: Callable[[Any, Any], Any]
    #: The column to index if it is often filtered by; None if an index exists or cannot help.
    column: str | None = None


@dataclass(frozen=True)
class Filters:
    """The conditions of a selection; a job must meet all of them."""

    given: Mapping[str, Any] = field(default_factory=dict)

    def narrow(self, **filters: Any) -> Filters:
        """These filters and more. A filter given again does not replace the first: both hold.

        Raises UnknownOption for an unknown name, and InvalidOption for an invalid value.
        """
        given = dict(self.given)
        for name, value in filters.items():
            if name not in FILTERS:
                raise UnknownOption(f"there is no filter {name!r}{did_you_mean(name, FILTERS)}")
            if value is None:
                raise InvalidOption(f"{name} is None: leave the filter out if any will do")
            new = FILTERS[name].read(name, value)
            given[name] = FILTERS[name].both(given[name], new) if name in given else new
        return Filters(given)

    @property
    def is_impossible(self) -> bool:
        """True if no job can be like that: any of none was asked for."""
        return any(isinstance(v, (frozenset, range)) and not v for v in self.given.values())

    @property
    def is_finished(self) -> bool | None:
        """Whether every job that is meant has finished; None if both may be."""
        return _all_in(self.given.get("state"), FINAL)

    @property
    def uses_index(self) -> bool:
        """True if an index leads to the jobs that are meant, or all are.

        There is one for ids, one for roots, one for the time at which a job has finished, one for
        what has failed, and two for what has not finished: enough where that is a small part of
        the table, which it mostly is.
        """
        if not self.given or self.is_finished is False:
            return True
        return not self.given.keys().isdisjoint(INDEXED)

    @property
    def columns(self) -> set[str]:
        """By which columns an index would lead to them."""
        return {column for name in self.given if (column := FILTERS[name].column)}

    def parameters(self) -> dict[str, Any]:
        """The parameters of the statement match_jobs; None for a filter that was not given."""
        values: dict[str, Any] = dict.fromkeys(FILTERS)
        for name, value in self.given.items():
            values[name] = sorted(value) if isinstance(value, frozenset) else value
            if name in ("args", "kwargs", "meta", "stamps"):
                values[name] = to_json(name, value)
        errors = values["error"] or [None]
        span = values["attempt"] if isinstance(values["attempt"], range) else None
        is_unfinished = self.is_finished is False
        return {
            **values,
            "is_finished": self.is_finished,
            "is_due": _all_in(self.given.get("state"), DUE) if is_unfinished else None,
            "attempt": None if span is not None else values["attempt"],
            "attempt_from": None if span is None else span.start,
            "attempt_to": None if span is None else span.stop - 1,
            # The jobs that have ended within these times: control.looking sets them.
            "ended_from": None,
            "ended_to": None,
            # Fingerprints begin with the type and a hyphen, and a period comes next after that.
            "error_first": errors[0] and f"{errors[0]}-",
            "error_last": errors[-1] and f"{errors[-1]}.",
        }

    def recorded(self) -> dict[str, str | None]:
        """The words of the audit for them: the one queue, and all but ids, which it has itself."""
        queues = self.given.get("queue", ())
        others = {name: self.given[name] for name in self.given if name != "id"}
        # Of what a message holds the keys only: a secret that stands in the audit stays there.
        others |= {name: _keys_only(others[name]) for name in _SAID if name in others}
        words = str(Filters(others))
        return {
            "queue": next(iter(queues)) if len(queues) == 1 else None,
            "filters": words if len(words) <= LONGEST_WORDS else f"{words[:LONGEST_WORDS]}…",
        }

    def __str__(self) -> str:
        words = []
        for name, value in self.given.items():
            shown = value
            if isinstance(value, frozenset):
                many = sorted(v.value if isinstance(v, State) else v for v in value)
                shown = many[0] if len(many) == 1 else many
            words.append(f"{name}={shown!r}")
        return ", ".join(words)


class _Anything:
    """Stands for a value that is not written down."""

    def __repr__(self) -> str:
        return "..."


_SAID = ("args", "kwargs", "meta")


def _keys_only(value: Any) -> Any:
    """The value with its keys, and without all that stands under them."""
    if isinstance(value, Mapping):
        return {key: _keys_only(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_keys_only(each) for each in value]
    return _Anything()


def _all_in(states: frozenset[State] | None, some: frozenset[State]) -> bool | None:
    """True if all the states are among some, False if none is, None otherwise."""
    if not states:
        return None
    if states <= some:
        return True
    return False if states.isdisjoint(some) else None


def text(name: str, value: Any) -> str:
    """A text as a column can hold it. Raises InvalidOption."""
    if not isinstance(value, str):
        raise InvalidOption(f"{name} must be text, not {value!r}")
    check_text(value, name)
    return str(value)


def _many(value: Any) -> Iterable[Any]:
    return value if isinstance(value, _MANY) else [value]


def _any_of(read: Callable[[str, Any], Any]) -> Callable[[str, Any], frozenset[Any]]:
    def read_many(name: str, value: Any) -> frozenset[Any]:
        return frozenset(
            read(name, each) for each in (value if isinstance(value, _MANY) else [value])
        )

    return read_many


def _task_id(name: str, value: Any) -> str:
    """Celery's id: as text, as a UUID, of a result, of a job."""
    if isinstance(value, int):
        raise InvalidOption(f"{name} is the task's id, as Celery has it, not the row's: {value!r}")
    value = getattr(value, "task_id", value)
    return text(name, value if isinstance(value, str) else str(value))


def _name(name: str, value: Any) -> str:
    """A name, or what bears it: a task, a queue."""
    return text(name, value if isinstance(value, str) else getattr(value, "name", value))


def _idempotency_key(name: str, value: Any) -> str:
    """A key as it was given to ``apply_async()``: as text, or as a UUID."""
    return check_key(value)


def _error(name: str, value: Any) -> str:
    """The type of an exception, by its name or itself."""
    if isinstance(value, BaseException):
        value = type(value)
    return type_of(text(name, value.__qualname__ if isinstance(value, type) else value))


def state(name: str, value: Any) -> State:
    """One of our seven. Raises InvalidOption with the nearest."""
    try:
        return State(value)
    except ValueError:
        near = did_you_mean(str(value).lower(), [state.value for state in State])
        raise InvalidOption(
            f"there is no {name} {value!r}{near or '; there are ' + ', '.join(State)}"
        ) from None


def _states(name: str, value: Any) -> frozenset[State]:
    """The states that are meant, by our names or by Celery's."""
    found: frozenset[State] = frozenset()
    for each in _many(value):
        celerys = BY_CELERY_NAME.get(each) if isinstance(each, str) else None
        found |= celerys or {state(name, each)}
    return found


def tags(name: str, value: Any) -> frozenset[str]:
    """Tags as they are kept: without space around them, in lower case. Raises InvalidOption."""
    found = frozenset(normalise_tags(_many(value)))
    if not found:
        raise InvalidOption(f"{name} must not be empty: {value!r}")
    return found


def _attempt(name: str, value: Any) -> range | frozenset[int]:
    if isinstance(value, range):
        if value.step != 1:
            raise InvalidOption(f"{name} must be a range without gaps, not {value!r}")
        return range(max(0, value.start), min(value.stop, MOST_ATTEMPTS + 1))
    numbers = frozenset(_many(value))
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool):
            raise InvalidOption(f"{name} must be a whole number or a range, not {number!r}")
        if not 0 <= number <= MOST_ATTEMPTS:
            raise InvalidOption(f"{name} must be between 0 and {MOST_ATTEMPTS:,}, not {number}")
    return numbers


def seconds(name: str, value: Any) -> float:
    """A duration, from seconds or a timedelta. Raises InvalidOption."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not is_number(value):
        raise InvalidOption(f"{name} must be seconds or a timedelta, not {value!r}")
    if not 0 <= value <= GREATEST_AGE:
        raise InvalidOption(f"{name} must be between 0 and {GREATEST_AGE:.0e} s, not {value!r}")
    return float(value)


def _lane(name: str, value: Any) -> frozenset[str]:
    """Flows and gates, all of which the lane names: "rate/queue/mail", "rate/queue/mail=7", "share"
    and "share=7"; or all of a lane, as a job has it."""
    lines = {line for each in _many(value) for line in text(name, each).split("\n")}
    if not lines:
        raise InvalidOption(f"{name} must not be empty: {value!r}")
    for line in lines:
        kind, is_path, rest = line.partition("/")
        is_flow = is_path and rest and kind in (RATE, RUNNING, PAUSE)
        if not (is_flow or line + "=" == SHARE or line.startswith(SHARE)):
            raise InvalidOption(
                f"{name} names flows as `celery pgjobs flows list` does, such as rate/queue/mail or"
                f" running/task/export, one key of it (rate/queue/mail=7), or share: not {line!r}"
            )
    return frozenset(lines)


def _key(name: str, value: Any) -> str:
    """A key as lanes have it."""
    if value is None or value == "":
        raise InvalidOption(f"{name} must not be {value!r}")
    return key_text(text(name, value) if isinstance(value, str) else value)


def _array(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InvalidOption(f"{name} must be a list, not {value!r}: [{value!r}]?")
    return list(_json(name, value))


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidOption(f"{name} must be a dict, not {value!r}")
    return dict(_json(name, value))


def _stamps(name: str, value: Any) -> dict[str, list[Any]]:
    """Each stamp with the values of which any will do."""
    given = _object(name, value)
    return {stamp: list(_many(values)) for stamp, values in given.items()}


def _json(name: str, value: Any) -> Any:
    if not value:
        raise InvalidOption(f"{name} must not be empty: every job contains that")
    to_json(name, value)
    return deepcopy(value)


def to_json(name: str, value: Any) -> str:
    """As Celery's JSON serializer writes it, dates and UUIDs too. Raises InvalidOption."""
    try:
        encoded = str(kombu_json.dumps(value, allow_nan=False))
        # Invalid Unicode can be escaped in JSON, but jsonb refuses it.
        json.dumps(json.loads(encoded), ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOption(f"{name} cannot be written as JSON: {error}") from None
    if _NUL_IN_JSON.search(encoded):
        raise InvalidOption(f"{name}: PostgreSQL's JSON has no NUL character: {value!r}")
    return encoded


def _both_objects(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    for key in first.keys() & second.keys():
        if first[key] != second[key]:
            raise InvalidOption(
                f"{key!r} cannot be {first[key]!r} and {second[key]!r} at the same time"
            )
    return {**first, **second}


def _both_attempts(
    first: range | frozenset[int], second: range | frozenset[int]
) -> range | frozenset[int]:
    if isinstance(first, range) and isinstance(second, range):
        return range(max(first.start, second.start), min(first.stop, second.stop))
    numbers: Iterable[int] = second if isinstance(first, range) else first
    return frozenset(number for number in numbers if number in first and number in second)


def _common(first: frozenset[Any], second: frozenset[Any]) -> frozenset[Any]:
    return first & second


def _all_of(first: Any, second: Any) -> Any:
    return first | second if isinstance(first, frozenset) else first + second


#: Every filter; docs/reference/jobs.md says what each means.
FILTERS: dict[str, Filter] = {
    "id": Filter(_any_of(_task_id), _common),
    "task": Filter(_any_of(_name), _common, "task"),
    "queue": Filter(_any_of(_name), _common, "queue"),
    "state": Filter(_states, _common),
    "tags": Filter(tags, _all_of, "tags"),
    "args": Filter(_array, _all_of),
    "kwargs": Filter(_object, _both_objects),
    "meta": Filter(_object, _both_objects, "meta"),
    "attempt": Filter(_attempt, _both_attempts),
    "older_than": Filter(seconds, max, "inserted_at"),
    "newer_than": Filter(seconds, min, "inserted_at"),
    "finished_before": Filter(seconds, max),
    "finished_after": Filter(seconds, min),
    "group": Filter(_any_of(_name), _common, "group_id"),
    "parent": Filter(_any_of(_task_id), _common, "parent_id"),
    "root": Filter(_any_of(_task_id), _common),
    "worker": Filter(_any_of(text), _common, "attempted_by"),
    "stamps": Filter(_stamps, _both_objects),
    "error": Filter(_any_of(_error), _common),
    "fingerprint": Filter(_any_of(text), _common),
    "lane": Filter(_lane, _all_of),
    "key": Filter(_any_of(_key), _common),
    "idempotency_key": Filter(_any_of(_idempotency_key), _common),
}
