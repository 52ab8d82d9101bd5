"""The path of the transport that kombu is given: ``pgjobs_celery.transport:Transport``.

Only this module sees both the broker and the worker: whoever loads the transport gets the worker's
steps with it, which take effect in a ``celery worker``.
"""

from __future__ import annotations

from .broker.transport import Transport
from .worker.steps import install

__all__ = ["Transport"]

install()
