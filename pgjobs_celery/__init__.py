"""PostgreSQL as Celery's broker and result backend: every task is a durable row.

    app = Celery("proj", broker="pgjobs://app@db/app", backend="pgjobs://app@db/app")

Importing this package is cheap, and needed only in a process without Celery: one that imports
Celery knows ``pgjobs://`` already.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _register as _register
from ._version import __version__

if TYPE_CHECKING:
    from .beat.cron import cron as cron
    from .beat.schedules import schedules as schedules
    from .control.acting import acting_as as acting_as
    from .control.audit import audit as audit
    from .control.flows import flows as flows
    from .control.jobs import jobs as jobs
    from .control.queues import queues as queues
    from .control.rate import rate as rate
    from .control.signal import asignal as asignal
    from .control.signal import signal as signal
    from .control.signal import signal_many as signal_many
    from .control.workers import workers as workers
    from .errors import QueueFull as QueueFull
    from .errors import RateExceeded as RateExceeded
    from .job.exceptions import Cancel as Cancel
    from .job.exceptions import Discard as Discard
    from .job.exceptions import Snooze as Snooze
    from .job.flow import Concurrency as Concurrency
    from .job.flow import Rate as Rate
    from .job.steps import Key as Key
    from .job.unique import Debounce as Debounce
    from .job.unique import Unique as Unique
    from .publishing.aio import aapply_async as aapply_async
    from .publishing.aio import adelay as adelay
    from .publishing.bulk import bulk as bulk
    from .publishing.enqueue_many import enqueue_many as enqueue_many
    from .publishing.using import using as using
    from .results.aio import aget as aget
    from .tasks.task import PgTask as PgTask

#: The public names, each by the module that is loaded when it is first asked for.
_MODULES = {
    "Cancel": "job.exceptions",
    "Concurrency": "job.flow",
    "Debounce": "job.unique",
    "Discard": "job.exceptions",
    "Key": "job.steps",
    "PgTask": "tasks.task",
    "QueueFull": "errors",
    "Rate": "job.flow",
    "RateExceeded": "errors",
    "rate": "control.rate",
    "Snooze": "job.exceptions",
    "Unique": "job.unique",
    "acting_as": "control.acting",
    "aapply_async": "publishing.aio",
    "adelay": "publishing.aio",
    "aget": "results.aio",
    "audit": "control.audit",
    "asignal": "control.signal",
    "bulk": "publishing.bulk",
    "enqueue_many": "publishing.enqueue_many",
    "cron": "beat.cron",
    "flows": "control.flows",
    "jobs": "control.jobs",
    "queues": "control.queues",
    "schedules": "beat.schedules",
    "signal": "control.signal",
    "signal_many": "control.signal",
    "using": "publishing.using",
    "workers": "control.workers",
}

__all__ = [
    "Cancel",
    "Concurrency",
    "Debounce",
    "Discard",
    "Key",
    "PgTask",
    "QueueFull",
    "Rate",
    "RateExceeded",
    "Snooze",
    "Unique",
    "__version__",
    "aapply_async",
    "acting_as",
    "adelay",
    "aget",
    "asignal",
    "audit",
    "bulk",
    "cron",
    "enqueue_many",
    "flows",
    "jobs",
    "queues",
    "rate",
    "schedules",
    "signal",
    "signal_many",
    "using",
    "workers",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _register.watch_tasks()
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
