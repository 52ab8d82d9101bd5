"""The path of the result backend that Celery is given: ``pgjobs_celery.backend:PgBackend``."""

from __future__ import annotations

from .results.backend import PgBackend

__all__ = ["PgBackend"]
