"""Oban for Python: psycopg, rows kept as history, outcomes written with the next fetch."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

from oban import Oban as App
from oban import job
from oban.schema import install

from benchmarks.queues.base import CONCURRENCY, DSN, QUEUE, Queue, noop


class Oban(Queue):
    """Its documentation's instance in server mode, ten at a time."""

    def __init__(self) -> None:
        self._worker = job(queue=QUEUE)(noop)

    async def install(self) -> None:
        async with self._pool() as pool:
            await install(pool)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with self._pool() as pool, App(pool=pool) as app:
            self._app = app
            yield

    async def enqueue(self, index: int) -> None:
        await self._app.enqueue(self._worker.new(index))

    async def enqueue_many(self, first: int, count: int) -> None:
        jobs = [self._worker.new(index) for index in range(first, first + count)]
        for start in range(0, count, 1_000):
            await self._app.enqueue_many(*jobs[start : start + 1_000])

    async def work(self) -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        async with self._pool() as pool, App(pool=pool, queues={QUEUE: CONCURRENCY}):
            await ended.wait()

    @contextlib.asynccontextmanager
    async def _pool(self) -> AsyncIterator[object]:
        pool = await App.create_pool(DSN)
        try:
            yield pool
        finally:
            await pool.close()
