"""Webhooks: an event that is delivered twice publishes one job, and an approval wakes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from tasks import DATABASE, TABLES, app, pay

from pgjobs_celery import Key, asignal, using


class Event(BaseModel):
    """What a shop delivers for an order: at least once, and sometimes twice at once."""

    id: str
    order: int
    amount: int
    customer: str


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Make the tables."""
    async with await psycopg.AsyncConnection.connect(DATABASE, autocommit=True) as connection:
        await connection.execute(TABLES)
    yield


async def connect() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection for a request."""
    async with await psycopg.AsyncConnection.connect(DATABASE, autocommit=True) as connection:
        yield connection


Connection = Annotated[psycopg.AsyncConnection[Any], Depends(connect)]

api = FastAPI(lifespan=lifespan)


@api.post("/webhooks/orders")
async def order_placed(event: Event, connection: Connection) -> dict[str, Any]:
    """Take an order: its row and its job are committed together, once for each event."""
    async with connection.transaction(), using(connection):
        await connection.execute(
            "INSERT INTO orders (id, amount, customer) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [event.order, event.amount, event.customer],
        )
        result = await pay.aapply_async(
            (event.order, event.amount, event.customer), idempotency_key=event.id
        )
    # A sender that got no answer delivers again, and gets the same one.
    return {"job": result.id, "again": result.conflict}


@api.post("/orders/{order}/approve")
async def approve(order: int, by: str) -> dict[str, bool]:
    """A person approves. The first one counts; the job waits, or is not that far yet."""
    to = Key(f"order-{order}")
    return {"approved": await asignal(app, to, "approved", {"by": by}, first=True)}
