"""chancy: psycopg, a poll and notifications, outcomes written in batches."""

import contextlib
import warnings
from collections.abc import AsyncIterator

from chancy import Chancy as App
from chancy import Job, Worker
from chancy import Queue as Settings

from benchmarks.queues.base import CONCURRENCY, DSN, QUEUE, Queue, noop


class Chancy(Queue):
    """Its documentation's worker, the asyncio executor, ten at a time."""

    def __init__(self) -> None:
        self._app = App(DSN)
        warnings.simplefilter("ignore")

    async def install(self) -> None:
        async with self._app as app:
            await app.migrate()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with self._app:
            yield

    def _job(self, index: int) -> Job:
        return Job.from_func(noop, queue=QUEUE, kwargs={"index": index})

    async def enqueue(self, index: int) -> None:
        await self._app.push(self._job(index))

    async def enqueue_many(self, first: int, count: int) -> None:
        jobs = [self._job(index) for index in range(first, first + count)]
        async for _ in self._app.push_many(jobs):
            pass

    async def work(self) -> None:
        settings = Settings(
            QUEUE, concurrency=CONCURRENCY, executor=App.Executor.Async, eager_polling=True
        )
        async with self._app as app:
            await app.declare(settings, upsert=True)
            async with Worker(app) as worker:
                await worker.wait_for_shutdown()
