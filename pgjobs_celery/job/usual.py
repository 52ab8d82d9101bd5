"""Leave out of a stored envelope what almost every task's message holds, and restore it.

Celery writes 19 headers into each message, and most are None, or the task id once more; nearly all
are JSON, of Python, and durable: 440 of the 660 bytes of a small task. Each byte is written
to the log, and kept for as long as the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The key of an envelope from which usual values are left out.
MARK = "usual"

#: Headers of Celery's message protocol 2, and what each is as a rule.
_HEADERS: Mapping[str, Any] = {
    **dict.fromkeys(
        ("shadow", "eta", "expires", "group", "group_index", "parent_id", "stamped_headers")
    ),
    **dict.fromkeys(("retries", "replaced_task_nesting"), 0),
    "timelimit": [None, None],
    "stamps": {},
    "lang": "py",
}
#: kombu's word for a message that survives a crash.
_PROPERTIES: Mapping[str, Any] = {"delivery_mode": 2}
#: How the body is written.
_CONTENT = {"content-type": "application/json", "content-encoding": "utf-8"}
#: Where the task's id stands once more.
_ROOT, _CORRELATION = "root_id", "correlation_id"


def leave_out(envelope: dict[str, Any]) -> dict[str, Any] | None:
    """The envelope without usual values, and with the mark; None where that cannot be undone.

    That is a message that lacks one of these names: it would have it afterwards.
    """
    headers, properties = envelope["headers"], envelope["properties"]
    task_id = headers.get("id")
    if (
        not isinstance(task_id, str)
        or not headers.keys() >= {*_HEADERS, _ROOT}
        or not properties.keys() >= {*_PROPERTIES, _CORRELATION}
    ):
        return None
    short = {
        **envelope,
        "headers": _without(headers, {**_HEADERS, _ROOT: task_id}),
        "properties": _without(properties, {**_PROPERTIES, _CORRELATION: task_id}),
        MARK: 1,
    }
    if all(envelope[name] == usual for name, usual in _CONTENT.items()):
        for name in _CONTENT:
            del short[name]
    return short


def restore(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Put usual values back where they were left out."""
    headers, properties = envelope["headers"], envelope["properties"]
    task_id = headers.get("id")
    return {
        **_CONTENT,
        **envelope,
        # A list and a dict of its own: who gets the message may change them.
        "headers": {**_HEADERS, "timelimit": [None, None], "stamps": {}, _ROOT: task_id, **headers},
        "properties": {**_PROPERTIES, _CORRELATION: task_id, **properties},
    }


def _without(given: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if not _is_usual(name, value, usual)}


def _is_usual(name: str, value: Any, usual: Mapping[str, Any]) -> bool:
    """False for what only equals it, as False does 0: that is not what the message has."""
    return name in usual and type(value) is type(usual[name]) and bool(value == usual[name])
