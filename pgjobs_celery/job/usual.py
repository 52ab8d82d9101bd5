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

#: Headers of Celery's message protocol 2 that are None as a rule.
_NONE = (
    "shadow", "eta", "expires", "group", "group_index", "parent_id", "stamped_headers",
)  # fmt: skip
#: Those that are 0, and those that are empty in their own way.
_ZERO = ("retries", "replaced_task_nesting")
_TIMELIMIT, _STAMPS = "timelimit", "stamps"
#: Where the task's id stands once more.
_ROOT, _CORRELATION = "root_id", "correlation_id"

#: The language of the publisher, and kombu's word for a message that survives a crash.
_LANG, _DELIVERY = ("lang", "py"), ("delivery_mode", 2)
#: How the body is written, as a rule.
_CONTENT = {"content-type": "application/json", "content-encoding": "utf-8"}

_NAMES = frozenset({*_NONE, *_ZERO, _TIMELIMIT, _STAMPS, _ROOT, _LANG[0]})
_USUAL: Mapping[str, Any] = {
    **dict.fromkeys(_NONE), **dict.fromkeys(_ZERO, 0), _LANG[0]: _LANG[1],
}  # fmt: skip

Envelope = dict[str, Any]


def leave_out(envelope: Envelope) -> Envelope | None:
    """The envelope without usual values, and with the mark; None where that cannot be undone.

    That is a message that lacks one of these names: it would have it afterwards.
    """
    headers, properties = envelope["headers"], envelope["properties"]
    task_id = headers.get("id")
    if (
        not isinstance(task_id, str)
        or not headers.keys() >= _NAMES
        or _CORRELATION not in properties
        or _DELIVERY[0] not in properties
    ):
        return None
    kept = dict(headers)
    for name in _NONE:
        if kept[name] is None:
            del kept[name]
    for name in _ZERO:
        if _is(kept[name], 0):
            del kept[name]
    if kept[_TIMELIMIT] == [None, None]:
        del kept[_TIMELIMIT]
    if kept[_STAMPS] == {}:
        del kept[_STAMPS]
    if kept[_ROOT] == task_id:
        del kept[_ROOT]
    if kept[_LANG[0]] == _LANG[1]:
        del kept[_LANG[0]]
    kept_properties = dict(properties)
    if _is(properties[_DELIVERY[0]], _DELIVERY[1]):
        del kept_properties[_DELIVERY[0]]
    if properties[_CORRELATION] == task_id:
        del kept_properties[_CORRELATION]
    short = {**envelope, "headers": kept, "properties": kept_properties, MARK: 1}
    if all(envelope[name] == usual for name, usual in _CONTENT.items()):
        for name in _CONTENT:
            del short[name]
    return short


def restore(envelope: Mapping[str, Any]) -> Envelope:
    """Put usual values back where they were left out."""
    headers, properties = envelope["headers"], envelope["properties"]
    task_id = headers.get("id")
    return {
        **_CONTENT,
        **envelope,
        "headers": {**_USUAL, _TIMELIMIT: [None, None], _STAMPS: {}, _ROOT: task_id, **headers},
        "properties": {_CORRELATION: task_id, _DELIVERY[0]: _DELIVERY[1], **properties},
    }


def _is(value: Any, number: int) -> bool:
    """False for what only equals it, as False does 0: that is not what the message has."""
    return type(value) is int and value == number
