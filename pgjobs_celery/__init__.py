"""PostgreSQL as Celery's broker and result backend: every task is a durable row.

    app = Celery("proj", broker="pgjobs://app@db/app", backend="pgjobs://app@db/app")

Importing this package is cheap, and needed only where Celery itself is not: a process that imports
Celery knows ``pgjobs://`` already.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from . import _register as _register
from ._version import __version__

if TYPE_CHECKING:
    from .queue_control import queues

__all__ = ["__version__", "queues"]

#: Where a name is that is loaded when it is asked for first.
_LAZY = {"queues": "queue_control"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value
