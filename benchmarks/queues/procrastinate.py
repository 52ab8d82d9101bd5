"""procrastinate: psycopg, an asyncio worker, a stored procedure to fetch each job."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.queues.base import CONCURRENCY, DSN, QUEUE, Queue, noop


class Procrastinate(Queue):
    """Its documentation's app, asyncio tasks, ten at a time."""

    def __init__(self) -> None:
        self._app = App(connector=PsycopgConnector(conninfo=DSN))
        self._task = self._app.task(queue=QUEUE, name="noop")(noop)

    async def install(self) -> None:
        async with self._app.open_async():
            await self._app.schema_manager.apply_schema_async()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with self._app.open_async():
            yield

    async def enqueue(self, index: int) -> None:
        await self._task.defer_async(index=index)

    async def enqueue_many(self, first: int, count: int) -> None:
        jobs: list[Any] = [{"index": index} for index in range(first, first + count)]
        for start in range(0, count, 1_000):
            await self._task.batch_defer_async(*jobs[start : start + 1_000])

    async def work(self) -> None:
        async with self._app.open_async():
            await self._app.run_worker_async(queues=[QUEUE], concurrency=CONCURRENCY)
