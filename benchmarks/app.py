"""The Celery app under measurement, configured by the environment of the process that imports it.

BENCH_BROKER, BENCH_BACKEND
    The URLs.
BENCH_QUEUE
    The one queue of this run.
BENCH_RESULTS
    ``1`` to store results, ``0`` to ignore them.
BENCH_TRANSPORT_OPTIONS
    ``broker_transport_options`` as JSON.
BENCH_SETTINGS
    Other settings of Celery's as JSON.
BENCH_HITS
    The folder in which tasks note that they started.
BENCH_RATE
    The rate of the task ``limited``, for each key.
BENCH_READY_FD
    A pipe that is told when the worker is ready.

All else is Celery's default.
"""

import asyncio
import importlib.util
import json
import os
import time

from celery import Celery
from celery.signals import worker_ready
from kombu.transport import TRANSPORT_ALIASES

from benchmarks.hits import record

TRANSPORT_ALIASES["free"] = "benchmarks.free:Transport"

HITS = os.environ.get("BENCH_HITS", "")
RATE = os.environ.get("BENCH_RATE", "100/10s")

app = Celery(  # type: ignore[no-untyped-call]
    "benchmarks",
    broker=os.environ.get("BENCH_BROKER", "memory://"),
    backend=os.environ.get("BENCH_BACKEND", "cache+memory://"),
)
app.conf.update(
    task_default_queue=os.environ.get("BENCH_QUEUE", "benchmarks"),
    task_ignore_result=os.environ.get("BENCH_RESULTS", "0") == "0",
    broker_transport_options=json.loads(os.environ.get("BENCH_TRANSPORT_OPTIONS", "{}")),
    **json.loads(os.environ.get("BENCH_SETTINGS", "{}")),
)


@app.task(name="noop")  # type: ignore[no-untyped-call, untyped-decorator]
def noop(index: int) -> int:
    """Do nothing but note the time, and return the index so that its result can be checked."""
    record(HITS, index)
    return index


@app.task(name="swallow")  # type: ignore[no-untyped-call, untyped-decorator]
def swallow(index: int, text: str) -> None:
    """As noop, with an argument of any length."""
    record(HITS, index)


@app.task(name="nap")  # type: ignore[no-untyped-call, untyped-decorator]
def nap(index: int, seconds: float) -> None:
    """Wait, and block a thread or greenlet for it."""
    record(HITS, index)
    time.sleep(seconds)


@app.task(name="anap")  # type: ignore[no-untyped-call, untyped-decorator]
async def anap(index: int, seconds: float) -> None:
    """Wait as a coroutine."""
    record(HITS, index)
    await asyncio.sleep(seconds)


@app.task(name="total")  # type: ignore[no-untyped-call, untyped-decorator]
def total(numbers: list[int]) -> int:
    """The body of a chord."""
    return sum(numbers)


if importlib.util.find_spec("pgjobs_celery"):
    from pgjobs_celery import PgTask, Rate, Unique

    @app.task(name="pgtask", base=PgTask)
    def pgtask(index: int) -> int:
        """As noop, with attempts and all that a PgTask has."""
        return index

    @app.task(name="unique", base=PgTask, unique=Unique(period=None))
    def unique(index: int) -> int:
        """As pgtask, and the only one of its index."""
        return index

    @app.task(name="plain", base=PgTask)
    def plain(index: int, key: int) -> None:
        """As noop, with a key."""
        record(HITS, index)

    @app.task(name="rated", base=PgTask, rate="1000000/s")
    def rated(index: int, key: int) -> None:
        """As plain, with a rate."""
        record(HITS, index)

    @app.task(name="keyed", base=PgTask, rate=Rate("1000000/s", by="args.1"))
    def keyed(index: int, key: int) -> None:
        """As plain, with a rate for each key."""
        record(HITS, index)

    @app.task(name="limited", base=PgTask, rate=Rate(RATE, by="args.1"))
    def limited(index: int, key: int) -> None:
        """As keyed, with a rate that does limit."""
        record(HITS, index)


@worker_ready.connect  # type: ignore[untyped-decorator]
def tell_that_the_worker_is_ready(**_: object) -> None:
    """Write a line into the pipe that the harness waits on."""
    ready = os.environ.get("BENCH_READY_FD")
    if ready is not None:
        os.write(int(ready), b"ready\n")
