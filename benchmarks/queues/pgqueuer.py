"""pgqueuer: asyncpg, jobs taken and finished in batches."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from benchmarks.queues.base import CONCURRENCY, DSN, Queue, noop


class Pgqueuer(Queue):
    """Its documentation's worker over one asyncpg connection, batches of ten: its default."""

    async def install(self) -> None:
        async with self.opened():
            await self._queries.install()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        connection = await asyncpg.connect(DSN)
        try:
            self._queries = Queries(AsyncpgDriver(connection))
            yield
        finally:
            await connection.close()

    async def enqueue(self, index: int) -> None:
        await self._queries.enqueue("noop", str(index).encode())

    async def enqueue_many(self, first: int, count: int) -> None:
        payloads: list[bytes | None] = [str(i).encode() for i in range(first, first + count)]
        for start in range(0, count, 1_000):
            some = payloads[start : start + 1_000]
            await self._queries.enqueue(["noop"] * len(some), some, [0] * len(some))

    async def work(self) -> None:
        connection = await asyncpg.connect(DSN)
        worker = PgQueuer.from_asyncpg_connection(connection)

        @worker.entrypoint("noop")
        async def run(job: Job) -> None:
            await noop(int(job.payload or b"0"))

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.shutdown.set)
        await worker.run(batch_size=CONCURRENCY)
        await connection.close()
