"""The Celery app and its tasks: nothing in here knows of transactions."""

from __future__ import annotations

import os
from typing import Any

import httpx
from celery import Celery
from sqlalchemy import create_engine, text

DATABASE = os.environ.get("DATABASE_URL", "postgresql://localhost/app")

app = Celery(
    "orders",
    broker=DATABASE.replace("postgresql:", "pgjobs:", 1),
    backend=DATABASE.replace("postgresql:", "pgjobs:", 1),
    task_cls="pgjobs_celery:PgTask",
)
app.conf.update(
    # A queue of its own, so that this worker never takes the tasks of another app in the database.
    task_default_queue="orders",
    broker_connection_retry_on_startup=True,
)

engine = create_engine(DATABASE.replace("postgresql:", "postgresql+psycopg:", 1))


@app.task
def ship(order_id: int) -> str:
    """Send what was ordered. The order is there, for it was committed together with this job."""
    with engine.begin() as connection:
        item = connection.scalar(
            text("UPDATE orders SET shipped = true WHERE id = :id RETURNING item"), {"id": order_id}
        )
    return f"{item} is on its way"


@app.task(bind=True)
async def read_price_list(self: Any, url: str) -> int:
    """Read a list line by line, as it comes, and say how far it is. A coroutine: while it waits for
    the supplier's server, its worker does something else."""
    lines = 0
    async with httpx.AsyncClient() as client, client.stream("GET", url) as answer:
        answer.raise_for_status()
        async for _ in answer.aiter_lines():
            lines += 1
            if lines % 1000 == 0:
                await self.meta.aset("lines", lines)
    await self.meta.aset("lines", lines)
    return lines
