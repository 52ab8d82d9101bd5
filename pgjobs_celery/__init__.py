"""PostgreSQL as Celery's broker and result backend: every task is a durable row.

    app = Celery("proj", broker="pgjobs://app@db/app", backend="pgjobs://app@db/app")

Importing this package is cheap, and needed only where Celery itself is not: a process that imports
Celery knows ``pgjobs://`` already.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _register as _register
from ._version import __version__

if TYPE_CHECKING:
    from .aio import aget as aget
    from .batch import bulk as bulk
    from .ending import Cancel as Cancel
    from .ending import Discard as Discard
    from .ending import Snooze as Snooze
    from .enqueuing import enqueue_many as enqueue_many
    from .publishing_async import aapply_async as aapply_async
    from .publishing_async import adelay as adelay
    from .queue_control import queues as queues
    from .schedule_control import schedules as schedules
    from .selection import jobs as jobs
    from .task import PgTask as PgTask
    from .timetable import cron as cron
    from .transactions import using as using
    from .unique import Unique as Unique

#: The public names, each by the module that is loaded when it is first asked for.
_MODULES = {
    "Cancel": "ending",
    "Discard": "ending",
    "PgTask": "task",
    "Snooze": "ending",
    "Unique": "unique",
    "aapply_async": "publishing_async",
    "adelay": "publishing_async",
    "aget": "aio",
    "bulk": "batch",
    "enqueue_many": "enqueuing",
    "cron": "timetable",
    "jobs": "selection",
    "queues": "queue_control",
    "schedules": "schedule_control",
    "using": "transactions",
}

__all__ = [
    "Cancel",
    "Discard",
    "PgTask",
    "Snooze",
    "Unique",
    "__version__",
    "aapply_async",
    "adelay",
    "aget",
    "bulk",
    "cron",
    "enqueue_many",
    "jobs",
    "queues",
    "schedules",
    "using",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
