"""The commit of the caller's transaction wakes the workers; and a FastAPI application."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import chord

from pgjobs_celery import aget, using
from pgjobs_celery.node.nodes import close_nodes

from ..conftest import Connection, close_app
from .conftest import StartWorker, Worker

fastapi = pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")
pytest.importorskip("sqlalchemy")

from ..support.callers import open_kind  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"

#: Far below the interval at which the worker looks by itself.
AT_ONCE = 3.0


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", autouse=True)
def running(module_worker: StartWorker, url: str) -> Worker:
    return module_worker(
        app="tests.e2e.orders",
        pool="threads",
        env={"DATABASE_URL": url.replace("pgjobs:", "postgresql:", 1)},
    )


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[ModuleType]:
    """The example's module, with our database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url.replace("pgjobs:", "postgresql:", 1))
        patch.syspath_prepend(str(EXAMPLE))
        api = importlib.import_module("api")

        async def start() -> None:
            async with api.lifespan(api.api):
                pass

        asyncio.run(start())
        yield api
        tasks = sys.modules["tasks"]
        tasks.engine.dispose()
        close_app(tasks.app)
        close_nodes()
        del sys.modules["api"], sys.modules["tasks"]


@pytest.mark.parametrize(
    "kind",
    ["psycopg", "sqlalchemy-psycopg2-session", "psycopg-async", "sqlalchemy-async-asyncpg-session"],
)
def test_the_commit_wakes_a_worker(kind: str, url: str, api: ModuleType):
    async def work() -> None:
        ship = api.ship
        async with open_kind(kind, url) as caller:
            async with caller.using():
                result = await caller.publish(ship, 0)
                due = await caller.publish(ship.s(0).set(countdown=0.3))
                after = await caller.publish(chord([ship.si(0), ship.si(0)], ship.si(0)))
            # It stands before this one in line, and comes after it.
            assert await aget(ship.delay(0), timeout=AT_ONCE) == "None is on its way"
            assert result.state == "PENDING"
            await caller.commit()
        for each in (result, due, after):
            assert await aget(each, timeout=AT_ONCE) == "None is on its way"

    asyncio.run(work())


def test_orders_and_their_jobs_are_there_together(api: ModuleType, connection: Connection):
    """Requests at the same time, of which every other one fails."""

    async def work() -> list[Any]:
        transport = httpx.ASGITransport(api.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            items = ["tea", "gold"] * 25
            answers = await asyncio.gather(
                *(client.post("/orders", params={"item": item}) for item in items)
            )
            assert [answer.status_code for answer in answers] == [201, 422] * 25
            orders = [answer.json() for answer in answers if answer.status_code == 201]
            began = time.monotonic()
            waits = await asyncio.gather(
                *(client.get(f"/orders/{order['order']}") for order in orders)
            )
            assert {wait.json()["status"] for wait in waits} == {"tea is on its way"}
            assert time.monotonic() - began < AT_ONCE
            assert (await client.get("/orders/0")).status_code == 404
        await api.engine.dispose()
        return orders

    connection.execute("DELETE FROM pgjobs.jobs")
    orders = asyncio.run(work())
    found = connection.execute("SELECT id, job, shipped FROM orders").fetchall()
    assert {(row["id"], row["job"], row["shipped"]) for row in found} == {
        (order["order"], order["job"], True) for order in orders
    }
    jobs = connection.execute("SELECT task_id FROM pgjobs.jobs").fetchall()
    assert {row["task_id"] for row in jobs} == {order["job"] for order in orders}


def test_a_dependency_may_hold_the_block_for_an_async_endpoint_only(
    api: ModuleType, connection: Connection
):
    """An endpoint that is no coroutine runs in a thread, and a thread does not take part."""

    async def joined() -> Any:
        async with api.make_session() as session, using(session):
            yield
            await session.rollback()

    app = fastapi.FastAPI(dependencies=[fastapi.Depends(joined)])

    @app.post("/coroutine")
    async def coroutine() -> str:
        return str((await api.ship.adelay(0)).id)

    @app.post("/thread")
    def thread() -> str:
        return str(api.ship.delay(0).id)

    async def work() -> list[str]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            ids = [(await client.post(path)).json() for path in ("/coroutine", "/thread")]
        await api.engine.dispose()
        return ids

    rolled_back, published = asyncio.run(work())
    jobs = connection.execute("SELECT task_id FROM pgjobs.jobs").fetchall()
    ids = {row["task_id"] for row in jobs}
    assert published in ids
    assert rolled_back not in ids
