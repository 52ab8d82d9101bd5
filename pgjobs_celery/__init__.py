"""PostgreSQL as Celery's broker and result backend: every task is a durable row.

    app = Celery("proj", broker="pgjobs://app@db/app", backend="pgjobs://app@db/app")

Importing this package is cheap, and needed only where Celery itself is not: a process that imports
Celery knows ``pgjobs://`` already.
"""

from __future__ import annotations

from . import _register as _register
from ._version import __version__

__all__ = ["__version__"]
