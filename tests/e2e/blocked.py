"""The workers' app, whose main process does something else while the first of two tasks begins."""

from __future__ import annotations

from typing import Any

from pgjobs_celery.signals import job_claimed

from . import tasks
from .tasks import app, wait_for_file

hold, identity = tasks.hold, tasks.identity


def block(task_id: str, **_: Any) -> None:
    """Of the task whose id is a path: until that exists."""
    if task_id.startswith("/"):
        open(f"{task_id}.blocked", "x").close()
        wait_for_file(task_id)


job_claimed.connect(block, weak=False)

__all__ = ["app"]
