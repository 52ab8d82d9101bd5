"""The path of the transport that kombu is given: ``pgjobs_celery.transport:Transport``."""

from __future__ import annotations

from .broker.transport import Transport

__all__ = ["Transport"]
