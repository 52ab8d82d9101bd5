"""An API in which an order and the job that ships it are committed together, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from celery.exceptions import TimeoutError as CeleryTimeoutError
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tasks import DATABASE, ship

from pgjobs_celery import aget, using

engine = create_async_engine(DATABASE.replace("postgresql:", "postgresql+asyncpg:", 1))
make_session = async_sessionmaker(engine, expire_on_commit=False)

STOCK = {"tea", "coffee"}


class Base(DeclarativeBase):
    """What SQLAlchemy knows of the tables."""


class Order(Base):
    """Somebody wants something."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    shipped: Mapped[bool] = mapped_column(default=False)
    job: Mapped[str | None]


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Make the table, and close what is open at the end."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


async def open_session() -> AsyncIterator[AsyncSession]:
    """A session for a request. Who uses it says where its transaction begins and ends."""
    async with make_session() as session:
        yield session


Session = Annotated[AsyncSession, Depends(open_session)]

api = FastAPI(lifespan=lifespan)


@api.post("/orders", status_code=201)
async def order(item: str, session: Session) -> dict[str, Any]:
    """Take an order. It is answered after the commit, so that what it says is so."""
    async with session.begin(), using(session):
        order = Order(item=item)
        session.add(order)
        await session.flush()
        result = await ship.adelay(order.id)
        order.job = result.id
        if item not in STOCK:
            # Whatever is raised here rolls back: neither the order is there nor its job.
            raise HTTPException(422, f"we have no {item}")
    return {"order": order.id, "job": result.id}


@api.get("/orders/{order_id}")
async def wait(order_id: int, session: Session, seconds: float = 10.0) -> dict[str, Any]:
    """What became of an order; waits for it."""
    found = await session.get(Order, order_id)
    if found is None:
        raise HTTPException(404, "no such order")
    # Not to hold a connection while there is nothing to do.
    await session.close()
    try:
        status = await aget(ship.AsyncResult(found.job), timeout=seconds)
    except CeleryTimeoutError:
        status = "not yet"
    return {"order": order_id, "status": status}
