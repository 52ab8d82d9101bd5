"""The app of the test of celery-aio-pool, whose tasks are coroutines."""

from __future__ import annotations

import asyncio
from typing import Any

from celery import Celery

from .tasks import URL

app = Celery("tests.e2e.aio_tasks", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)


@app.task
async def add_one(number: int) -> Any:
    await asyncio.sleep(0.01)
    return number + 1
