"""The tasks of the soak: each ends in its own way, and most in a coroutine."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from types import CoroutineType, TracebackType
from typing import Any

import psutil
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_ready
from celery.worker.control import inspect_command

from pgjobs_celery import PgTask, adelay
from pgjobs_celery.worker.aio.run import Seat
from pgjobs_celery.worker.request import JobRequest

URL = os.environ.get("PGJOBS_TEST_URL")

app = Celery("tests.soak", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))

#: What is cancelled ends by itself where nobody hears that: a worker in a warm shutdown does not.
LONG = 5

#: What is counted of what the garbage collector knows.
COUNTED = {
    "greenlets": Seat,
    "requests": JobRequest,
    "coroutines": CoroutineType,
    "tracebacks": TracebackType,
}


@worker_ready.connect
def report_ready(**_: Any) -> None:
    descriptor = os.environ.get("PGJOBS_TEST_READY")
    if descriptor:
        with suppress(BrokenPipeError):
            os.write(int(descriptor), b"ready\n")


@inspect_command(visible=False)  # type: ignore[untyped-decorator]
def census(state: Any, **_: Any) -> dict[str, Any]:
    """What the worker holds."""
    pool = state.consumer.pool
    gc.collect()
    counts: Counter[str] = Counter()
    for each in gc.get_objects():
        for name, kind in COUNTED.items():
            counts[name] += isinstance(each, kind)
    process = psutil.Process()
    threads = Counter(each.name.rstrip("0123456789") for each in threading.enumerate())
    return {
        **{name: counts[name] for name in COUNTED},
        "in the pool": len(pool._pool_map),
        "descriptors": process.num_fds(),
        "rss": process.memory_info().rss,
        "asyncio tasks": pool._loop.ask(lambda: len(asyncio.all_tasks())),
        # Threads of the pool come as they are needed, 32 at the most.
        "threads": sum(count for name, count in threads.items() if "pgjobs-task" not in name),
    }


def pause() -> float:
    return random.random() / 5


@app.task
async def sleeps() -> None:
    await asyncio.sleep(pause())


@app.task(acks_late=True)
async def sleeps_late() -> None:
    await asyncio.sleep(pause())


@app.task
async def fails() -> None:
    weight = bytearray(50_000)
    await asyncio.sleep(pause())
    raise ValueError(f"{len(weight)} bytes that its frame holds")


@app.task(base=PgTask, bind=True, max_attempts=4)
async def fails_twice(self: Any) -> None:
    await asyncio.sleep(pause())
    if self.request.attempt < 3:
        raise ConnectionError(f"attempt {self.request.attempt}")


fails_twice.backoff = lambda job: 0.1


@app.task(bind=True, max_retries=3)
async def retries(self: Any) -> None:
    await asyncio.sleep(pause())
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)


@app.task(base=PgTask, bind=True)
async def snoozes(self: Any) -> None:
    if not await self.meta.aget("snoozed"):
        await self.meta.aset("snoozed", True)
        raise self.snooze(0.1)


@app.task(soft_time_limit=0.2)
async def exceeds_soft() -> None:
    await asyncio.sleep(60)


@app.task(soft_time_limit=0.2)
async def catches_soft() -> None:
    with suppress(SoftTimeLimitExceeded):
        await asyncio.gather(*(asyncio.sleep(60) for _ in range(3)))


@app.task(time_limit=0.3)
async def exceeds_hard() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)


@app.task
async def is_cancelled() -> None:
    async with asyncio.Lock():
        await asyncio.sleep(LONG)


@app.task
async def swallows_cancellation() -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(LONG)


@app.task
async def gathers() -> None:
    async def child(number: int) -> int:
        await asyncio.sleep(pause())
        if number == 2:
            raise KeyError(number)
        return number

    children = [asyncio.ensure_future(child(number)) for number in range(4)]
    found = await asyncio.gather(*children, return_exceptions=True)
    assert [type(each).__name__ for each in found] == ["int", "int", "KeyError", "int"]


@app.task
async def times_out() -> None:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.05)


@app.task
async def forgets_child() -> None:
    asyncio.create_task(asyncio.sleep(0.3))  # noqa: RUF006


@app.task
async def publishes() -> None:
    await adelay(sleeps)


@app.task
async def blocks_for_a_moment() -> None:
    time.sleep(0.05)


@app.task
def in_a_thread() -> None:
    time.sleep(pause())


@app.task
def loop_in_a_thread() -> None:
    asyncio.run(asyncio.sleep(0.01))


@app.task
async def number(n: int) -> int:
    await asyncio.sleep(pause())
    return n


@app.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)
