"""``celery pgjobs``: the commands."""

from __future__ import annotations

from .main import pgjobs

__all__ = ["pgjobs"]
