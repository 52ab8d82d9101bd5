"""Check the headers of a task's message before Celery's worker builds on them.

Celery takes them as they come: a time limit that is not a pair, a name that cannot be hashed, or an
eta that is not a time, raises in the worker's main process, wherever it is used first, and ends it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from celery.exceptions import InvalidTaskError

#: Names of other tasks, and the task's own: text to the database and to Celery's registers.
NAMES = ("id", "root_id", "parent_id", "group")
#: Headers that are shown, or are keys.
TEXTS = ("shadow", "argsrepr", "kwargsrepr")
#: Headers that are numbers.
NUMBERS = ("retries", "replaced_task_nesting", "group_index")
#: Times, as ISO 8601 or as kombu's JSON decodes them.
TIMES = ("eta", "expires")


def check_headers(headers: dict[str, Any]) -> None:
    """Raise InvalidTaskError for a header of another type than Celery's; 1 µs for a good one.

    An id that is a number or a UUID becomes text, as it is in the row.
    """
    get = headers.get
    for name in NAMES:
        value = get(name)
        if value is not None and type(value) is not str:
            headers[name] = _name(name, value)
    for name in TEXTS:
        value = get(name)
        if value is not None and not isinstance(value, str):
            raise _invalid(name, "text", value)
    for name in NUMBERS:
        value = get(name)
        if value is not None and not isinstance(value, int):
            raise _invalid(name, "a whole number", value)
    for name in TIMES:
        value = get(name)
        if value is None or isinstance(value, datetime):
            continue
        if not value or not isinstance(value, str):
            raise _invalid(name, "a time", value)
    if (limits := get("timelimit")) is not None:
        _check_limits(limits)
    if get("stamped_headers") or get("stamps"):
        _check_stamps(get("stamped_headers"), get("stamps"))


def _name(name: str, value: Any) -> str:
    if not isinstance(value, (str, int, UUID)) or isinstance(value, bool):
        raise _invalid(name, "text", value)
    return str(value)


def _check_limits(limits: Any) -> None:
    if not isinstance(limits, (list, tuple)) or len(limits) not in (0, 2):
        raise _invalid("timelimit", "a pair of seconds", limits)
    for limit in limits:
        if limit is not None and not (
            isinstance(limit, (int, float)) and math.isfinite(limit) and limit >= 0
        ):
            raise _invalid("timelimit", "a pair of seconds", limits)


def _check_stamps(names: Any, stamps: Any) -> None:
    if names is not None and not (
        isinstance(names, (list, tuple, set)) and all(isinstance(name, str) for name in names)
    ):
        raise _invalid("stamped_headers", "a list of names", names)
    if stamps is not None and not isinstance(stamps, Mapping):
        raise _invalid("stamps", "an object", stamps)


def _invalid(name: str, wanted: str, value: Any) -> InvalidTaskError:
    return InvalidTaskError(f"the header {name!r} must be {wanted}, not {value!r:.100}")
