"""Tasks that this process publishes past every block: an assertion must not overlook them.

A block captures what its app publishes through the app's own pools. Over a connection that the code
has opened itself, or by another app (a shared task's is the current one), a task goes to a real
broker. Celery signals each published task; those that no block has received have escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import signals

#: The ids of tasks that a block has received, and that Celery has not signalled yet.
_received: set[str] = set()
#: The names of tasks that no block has received, in order.
_escaped: list[str] = []
#: Whether published tasks may go to a real broker.
_is_any_real: Callable[[], bool] = bool


def watch(is_any_real: Callable[[], bool]) -> None:
    """Watch publishing until the last block has ended."""
    global _is_any_real
    _is_any_real = is_any_real
    signals.after_task_publish.connect(_on_published, weak=False)


def unwatch() -> None:
    """Stop watching until the next block."""
    signals.after_task_publish.disconnect(_on_published)
    _received.clear()
    _escaped.clear()


def receive(task_id: str) -> None:
    """A block has received this one."""
    _received.add(task_id)


def count() -> int:
    """How many have escaped so far."""
    return len(_escaped)


def since(number: int) -> list[str]:
    """The names of the tasks that have escaped since there were so many."""
    return _escaped[number:]


def _on_published(sender: Any, headers: Mapping[str, Any] | None = None, **_: Any) -> None:
    task_id = (headers or {}).get("id")
    if task_id is None:
        return
    if task_id in _received:
        _received.discard(task_id)
    elif not _is_any_real():
        _escaped.append(str(sender))
