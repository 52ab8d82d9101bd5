"""Publish what comes after a task, as Celery's tracer does once the task has returned.

The tracer does it outside of any transaction. Here it is done in the task's own, with the same
arguments; the tracer then finds none left. ``test_effects.py`` compares the rows that both make.
"""

from __future__ import annotations

from typing import Any

from celery import group
from celery.canvas import maybe_signature


def publish_successors(app: Any, request: Any, value: Any) -> None:
    """Publish the callbacks of the task that runs, and the next step of its chain."""
    options = {
        "parent_id": request.id,
        "root_id": request.root_id or request.id,
        "priority": _priority(app, request),
    }
    callbacks = [maybe_signature(each, app=app) for each in request.callbacks or ()]
    if len(callbacks) == 1:
        callbacks[0].apply_async((value,), **options)
    elif callbacks:
        # A group keeps its trail itself.
        singles = [each for each in callbacks if not isinstance(each, group)]
        for each in callbacks:
            if isinstance(each, group):
                each.apply_async((value,), **options)
        if singles:
            group(singles, app=app).apply_async((value,), **options)
    if request.chain:
        *rest, step = request.chain  # the last comes first
        maybe_signature(step, app=app).apply_async((value,), chain=rest, **options)


def forget_successors(request: Any) -> None:
    """Have Celery's tracer publish none: they are there."""
    request.callbacks = request.chain = None


def _priority(app: Any, request: Any) -> Any:
    if not app.conf.task_inherit_parent_priority:
        return None
    return (request.delivery_info or {}).get("priority")
