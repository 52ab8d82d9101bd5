"""Open a queue by its name, and publish to it in step with other processes.

A module of its own: a process that is spawned imports what it runs, and not a package's __main__.
"""

import asyncio
import importlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.queues.base import Queue

#: Published in bulk and not timed.
WARM_UP = 100


def load(name: str) -> Queue:
    """The queue whose module has this name."""
    module = importlib.import_module(f"benchmarks.queues.{name}")
    queue: Queue = getattr(module, name.capitalize())()
    return queue


async def opened(queue: Queue, act: Callable[[Queue], Coroutine[Any, Any, Any]]) -> Any:
    async with queue.opened():
        return await act(queue)


def publish_at_once(name: str, first: int, count: int, ready: Any, sent: Any) -> None:
    """Publish when all the others are ready to, and say when it began, when it ended, its CPU."""

    async def publish(queue: Queue) -> None:
        await queue.enqueue_many(-WARM_UP, WARM_UP)
        ready.wait()
        cpu, clock = time.process_time(), time.monotonic()
        await queue.enqueue_many(first, count)
        sent.put((clock, time.monotonic(), time.process_time() - cpu))

    asyncio.run(opened(load(name), publish))
