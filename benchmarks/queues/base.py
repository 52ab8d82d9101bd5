"""What the harness asks of a queue that is not Celery; each does the same work in its own way."""

import asyncio
import contextlib
import os
from abc import ABC, abstractmethod

from benchmarks.hits import record

#: How many jobs a worker has under way at a time, in one process: as ``-P threads -c 10``.
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "10"))
#: For how long each waits, in seconds.
NAP = float(os.environ.get("BENCH_NAP", "0"))

DSN = os.environ.get("BENCH_DSN", "")
QUEUE = os.environ.get("BENCH_QUEUE", "benchmarks")
HITS = os.environ.get("BENCH_HITS", "")


async def noop(index: int) -> None:
    """Do nothing but note the time, as the Celery task does; or wait besides."""
    record(HITS, index)
    if NAP:
        await asyncio.sleep(NAP)


class Queue(ABC):
    """Publishes committed jobs, and works on them."""

    @abstractmethod
    async def install(self) -> None:
        """Put the schema into the empty database."""

    @abstractmethod
    def opened(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Connections to publish over."""

    @abstractmethod
    async def enqueue(self, index: int) -> None:
        """Publish one job and commit it."""

    @abstractmethod
    async def enqueue_many(self, first: int, count: int) -> None:
        """Publish many jobs in the way that the project has for it."""

    @abstractmethod
    async def work(self) -> None:
        """Work on the queue until SIGTERM, as the project's documentation starts a worker."""
