"""Assert what was enqueued."""

from __future__ import annotations

from typing import Any

from .capture import Enqueued
from .modes import find_testing


def assert_enqueued(task: Any = None, *, app: Any = None) -> Enqueued:
    """Raise AssertionError unless a job of the task is enqueued."""
    found = all_enqueued(task, app=app)
    assert found, f"no job of {task} is enqueued"
    return found[0]


def all_enqueued(task: Any = None, *, app: Any = None) -> list[Enqueued]:
    """The jobs of a task that are enqueued."""
    block = find_testing(app or getattr(task, "app", None))
    return block.inbox.find(task if task is None or isinstance(task, str) else task.name)
