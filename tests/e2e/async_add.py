"""The workers' app, whose ``add`` is a coroutine: for the pool that is made for them."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from . import tasks
from .tasks import app

__all__ = ["app"]

#: How a worker is started with it.
OPTIONS: dict[str, Any] = {
    "app": __name__,
    "pool": "custom",
    "env": {"CELERY_CUSTOM_WORKER_POOL": "pgjobs_celery.worker.aio:TaskPool"},
}


if "worker" in sys.argv:
    # Not in a test, which publishes the other.
    app.tasks.unregister(tasks.add.name)

    @app.task(name=tasks.add.name)
    async def add(x: Any, y: Any) -> Any:
        await asyncio.sleep(0)
        return x + y
