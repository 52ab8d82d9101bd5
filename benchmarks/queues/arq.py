"""arq: Redis, an asyncio worker, a key for each job."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker, func

from benchmarks.queues.base import CONCURRENCY, DSN, QUEUE, Queue, noop


async def run(context: dict[Any, Any], index: int) -> None:
    """Its tasks take a context."""
    await noop(index)


class Arq(Queue):
    """Its documentation's worker; results are not kept."""

    _pool: ArqRedis

    async def install(self) -> None:
        """Redis needs none."""

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        self._pool = await create_pool(RedisSettings.from_dsn(DSN))
        try:
            yield
        finally:
            await self._pool.aclose()

    async def enqueue(self, index: int) -> None:
        await self._pool.enqueue_job("noop", index, _queue_name=QUEUE)

    async def enqueue_many(self, first: int, count: int) -> None:
        for index in range(first, first + count):
            await self.enqueue(index)

    async def work(self) -> None:
        worker = Worker(
            functions=[func(run, name="noop", keep_result=0)],
            redis_settings=RedisSettings.from_dsn(DSN),
            queue_name=QUEUE,
            max_jobs=CONCURRENCY,
            job_completion_wait=10,
        )
        await worker.async_run()
