"""The path of ``next_tick()`` and ``cron()`` that the documents name."""

from __future__ import annotations

from .beat.cron import cron
from .beat.next_tick import next_tick

__all__ = ["cron", "next_tick"]
