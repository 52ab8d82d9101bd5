"""Celery's beat over rows: the scheduler, entries, ``cron()``, ``schedules()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .scheduler import PgScheduler as PgScheduler

__all__ = ["PgScheduler"]


def __getattr__(name: str) -> Any:
    # Lazily: a program that uses cron() alone loads no scheduler.
    if name != "PgScheduler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .scheduler import PgScheduler

    return PgScheduler
