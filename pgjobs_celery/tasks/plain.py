"""Find the plain tasks (``@app.task``, no PgTask) that are coroutines, as they come.

A worker prepares its tasks itself. In eager mode no part of this package is asked, and so Celery's
class of tasks tells of each that is bound to its app.
"""

from __future__ import annotations

import functools
import inspect
from importlib import import_module
from typing import Any

from celery import _state
from celery.app.task import Context, Task

#: Celery's tasks that run another for each of many arguments.
_AROUND = frozenset({"celery.map", "celery.starmap"})

#: The settings by which an app is known as one of ours.
_SETTINGS = ("broker_url", "broker_write_url", "result_backend")


def is_coroutine(run: Any) -> bool:
    """True for the body of an ``async def`` task."""
    while isinstance(run, functools.partial):
        run = run.func
    return inspect.iscoroutinefunction(inspect.unwrap(run))


def is_ours(app: Any) -> bool:
    """True for an app whose broker or result backend is PostgreSQL, by its settings."""
    return any("pgjobs" in str(app.conf.get(name)) for name in _SETTINGS)


def is_called_by_celery(args: tuple[Any, ...]) -> bool:
    """True where Celery itself calls a task like a function, and cannot await it.

    It calls so a ``link_error``, whose arguments tell, and what ``map``, ``starmap`` and ``chunks``
    run, each a task around this one.
    """
    if len(args) >= 3 and isinstance(args[0], Context) and isinstance(args[1], BaseException):
        return True
    around = _state._task_stack.stack[-2:-1]
    return bool(around) and around[0].name in _AROUND


def watch_tasks() -> None:
    """Have plain coroutines run to their end in eager mode, in each app that is one of ours.

    By the method that Celery calls when a task is bound to its app, which does nothing by itself.
    """
    on_bound = Task.on_bound.__func__

    def on_task(cls: Any, app: Any) -> None:
        on_bound(cls, app)
        if (task := app._tasks.get(cls.name)) is not None:
            _prepare(task)

    on_task.is_ours = True  # type: ignore[attr-defined]
    Task.on_bound = classmethod(on_task)
    for app in _state._get_active_apps():
        for task in list(app._tasks.values()):
            _prepare(task)


def _prepare(task: Any) -> None:
    # A PgTask sees to its body itself.
    if is_coroutine(task.run) and not hasattr(task, "max_attempts"):
        # Only now: a producer does without it.
        import_module(".coroutines", __package__).prepare_task(task, is_ours=False)
