"""Leave out of a stored envelope what almost every task's message holds, and restore it.

Celery writes 19 headers into each message, and most are None, or the task id once more: 350 of the
660 bytes of a small task. Each byte is written to the log, and kept for as long as the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The key of an envelope from which usual values are left out.
MARK = "usual"

#: Headers of Celery's message protocol 2 that are None as a rule.
_NONE = (
    "shadow", "eta", "expires", "group", "group_index", "parent_id", "stamped_headers",
)  # fmt: skip
#: Those that are 0, and those that are empty in their own way.
_ZERO = ("retries", "replaced_task_nesting")
_TIMELIMIT, _STAMPS = "timelimit", "stamps"
#: Where the task's id stands once more.
_ROOT, _CORRELATION = "root_id", "correlation_id"

_NAMES = frozenset({*_NONE, *_ZERO, _TIMELIMIT, _STAMPS, _ROOT})
_USUAL: Mapping[str, Any] = {**dict.fromkeys(_NONE), **dict.fromkeys(_ZERO, 0)}

Parts = tuple[dict[str, Any], dict[str, Any]]


def leave_out(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Parts | None:
    """The headers and properties without usual values; None where that cannot be undone.

    That is a message that lacks one of these names: it would have it afterwards.
    """
    task_id = headers.get("id")
    if (
        not isinstance(task_id, str)
        or not headers.keys() >= _NAMES
        or _CORRELATION not in properties
    ):
        return None
    kept = dict(headers)
    for name in _NONE:
        if kept[name] is None:
            del kept[name]
    for name in _ZERO:
        if (
            type(kept[name]) is int and not kept[name]
        ):  # False equals 0, and is not what the message has
            del kept[name]
    if kept[_TIMELIMIT] == [None, None]:
        del kept[_TIMELIMIT]
    if kept[_STAMPS] == {}:
        del kept[_STAMPS]
    if kept[_ROOT] == task_id:
        del kept[_ROOT]
    if properties[_CORRELATION] == task_id:
        return kept, {name: properties[name] for name in properties if name != _CORRELATION}
    return kept, dict(properties)


def restore(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Parts:
    """Put usual values back where they were left out."""
    task_id = headers.get("id")
    return (
        {**_USUAL, _TIMELIMIT: [None, None], _STAMPS: {}, _ROOT: task_id, **headers},
        {_CORRELATION: task_id, **properties},
    )
