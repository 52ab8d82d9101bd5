"""The same selection of jobs elsewhere: as a command, as Python and as SQL."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ..job.spelling import write_attempts, write_duration
from ..job.states import State
from .filters import Filters, to_json

#: The command of each action, by the method of Selection.
COMMANDS = {
    "cancel": "cancel",
    "retry": "retry",
    "delete": "delete",
    "reschedule": "reschedule",
    "set_priority": "prioritize",
    "move": "move",
}

_DURATIONS = frozenset({"older_than", "newer_than", "finished_before", "finished_after"})
_JSON = frozenset({"args", "kwargs", "meta", "stamps"})
#: The option of a filter, where it is not the name of it.
_OPTIONS = {"tags": "--tag"}


def _texts(value: Iterable[Any]) -> list[str]:
    """Any of these, as plain texts."""
    return sorted(each.value if isinstance(each, State) else str(each) for each in value)


# As a command


def as_cli(
    filters: Filters, command: str = "jobs", options: Mapping[str, Any] | None = None
) -> str:
    """The command that lists these jobs, or does something to them.

    ``options`` are the command's own; of one that is True only the name is written. Without filters
    a command that acts is told that all are meant. Empty for filters that no job can meet: no
    command means that.
    """
    if filters.is_impossible:
        return ""
    words = ["celery", "pgjobs", command]
    for name, value in filters.given.items():
        flag = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        for each in _arguments(name, value):
            words += _option(flag, each)
    if command != "jobs" and not filters.given:
        words.append("--all")
    for flag, value in (options or {}).items():
        words += [flag] if value is True else _option(flag, str(value))
    return shlex.join(words)


def _option(flag: str, value: str) -> list[str]:
    # A value that begins with a dash would be read as another option.
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]


def _arguments(name: str, value: Any) -> list[str]:
    if name in _DURATIONS:
        return [write_duration(value)]
    if name == "attempt":
        return [write_attempts(value)]
    if name in _JSON:
        return [json.dumps(_plain(name, value), ensure_ascii=False)]
    return _texts(value)


def _plain(name: str, value: Any) -> Any:
    """As JSON has it, in the way that Celery writes dates and UUIDs."""
    return json.loads(to_json(name, value))


# As Python


def as_python(filters: Filters, action: str = "", options: Mapping[str, Any] | None = None) -> str:
    """The expression that selects these jobs, or that does something to them."""
    given = ", ".join(f"{name}={_literal(name, v)}" for name, v in filters.given.items())
    selected = f"jobs(app).filter({given})" if given else "jobs(app)"
    if not action:
        return selected
    return f"{selected}.{action}({', '.join(f'{k}={v!r}' for k, v in (options or {}).items())})"


def _literal(name: str, value: Any) -> str:
    if isinstance(value, frozenset):
        if name == "attempt":
            numbers = sorted(value)
            return repr(numbers[0] if len(numbers) == 1 else numbers)
        texts = _texts(value)
        return repr(texts[0] if len(texts) == 1 else texts)
    if name in _DURATIONS and value == int(value):
        return repr(int(value))
    return repr(value)


# As SQL


def as_sql(filters: Filters, schema: str = "pgjobs", limit: int = 100) -> str:
    """The statement that finds these jobs, the newest first, in the view ``job_details``."""
    place = schema if re.fullmatch(r"[a-z_][a-z0-9_]*", schema) else _identifier(schema)
    conditions = [
        condition
        for name, value in filters.given.items()
        if name not in ("lane", "key")
        for condition in _conditions(name, value, place)
    ]
    conditions += _lanes(filters.given.get("lane"), filters.given.get("key"))
    lines = [
        "SELECT id, task_id, task, queue, state, attempt, inserted_at, args, kwargs",
        f"FROM {place}.job_details",
    ]
    if conditions:
        lines.append("WHERE " + "\n  AND ".join(conditions))
    return "\n".join([*lines, f"ORDER BY id DESC LIMIT {limit}"])


_COLUMNS = {
    "id": "task_id",
    "group": "group_id",
    "parent": "parent_id",
    "root": "root_id",
    "worker": "attempted_by",
}
_AGES = {
    "older_than": "inserted_at <",
    "newer_than": "inserted_at >",
    "finished_before": "finished_at <",
    "finished_after": "finished_at >",
}


def _conditions(name: str, value: Any, schema: str) -> list[str]:
    if name in _AGES:
        return [f"{_AGES[name]} now() - interval '{write_seconds(value)} seconds'"]
    if name == "stamps":
        return [_stamp(stamp, values, schema) for stamp, values in _plain(name, value).items()]
    if name in _JSON:
        return [f"{name} @> {_text(json.dumps(_plain(name, value), ensure_ascii=False))}::jsonb"]
    if name == "tags":
        return [f"tags @> ARRAY[{', '.join(map(_text, _texts(value)))}]::text[]"]
    if isinstance(value, range):
        return [f"{name} BETWEEN {value.start} AND {value.stop - 1}"] if value else ["false"]
    if name == "attempt":
        return [_any_of(name, [str(number) for number in sorted(value)])]
    if name == "idempotency_key":
        keys = _any_of("key", [_text(each) for each in _texts(value)])
        return [f"task_id IN (SELECT task_id FROM {schema}.receipts WHERE {keys})"]
    column = "left(fingerprint, -11)" if name == "error" else _COLUMNS.get(name, name)
    return [_any_of(column, [_text(each) for each in _texts(value)])]


def _lanes(lines: Iterable[str] | None, keys: Iterable[str] | None) -> list[str]:
    """A condition for each line of the lane that is asked for, or for a key in any of them."""
    if lines is None and keys is None:
        return []
    name, key = "split_part(l.line, '=', 1)", "substr(l.line, strpos(l.line, '=') + 1)"
    with_key = ""
    if keys is not None:
        with_key = (
            f"strpos(l.line, '=') > 0 AND {_any_of(key, [_text(each) for each in sorted(keys)])}"
        )
    each_line = [f"{_text(line)} IN (l.line, {name})" for line in sorted(lines or ())]
    return [
        "EXISTS (SELECT FROM unnest(string_to_array(lane, chr(10))) AS l (line)"
        f" WHERE {' AND '.join(filter(None, (condition, with_key)))})"
        for condition in each_line or [""]
    ]


def _any_of(column: str, literals: list[str]) -> str:
    if not literals:
        return "false"
    return (
        f"{column} = {literals[0]}"
        if len(literals) == 1
        else f"{column} IN ({', '.join(literals)})"
    )


def _stamp(stamp: str, values: list[Any], schema: str) -> str:
    found = (
        f"{schema}.body_json(convert_to(j.message, 'UTF8'))"
        f" #> ARRAY['headers', 'stamps', {_text(stamp)}]"
    )
    any_of = " OR ".join(
        f"{found} @> {_text(json.dumps(value, ensure_ascii=False))}::jsonb" for value in values
    )
    return f"id IN (SELECT j.id FROM {schema}.jobs AS j WHERE {any_of or 'false'})"


def write_seconds(seconds: float) -> str:
    """A number of seconds without an exponent."""
    return write_duration(seconds) if seconds % 60 else str(int(seconds))


def _text(value: str) -> str:
    """A text as a literal; the setting standard_conforming_strings is on since PostgreSQL 9.1."""
    return "'" + value.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
