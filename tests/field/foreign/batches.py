"""celery-batches: batches by number and by time, results of a batch, and a plain task beside."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from celery_batches import Batches
from observing import BROKER, REDIS, RESULTS, observe, running_worker, wait_until
from redis import Redis

app = Celery("batches", broker=BROKER, backend=RESULTS)
app.conf.update(task_default_queue="batches", worker_prefetch_multiplier=10)


@app.task(base=Batches, flush_every=20, flush_interval=3)
def count(requests: list[Any]) -> None:
    Redis.from_url(REDIS).rpush("sizes", len(requests))
    for request in requests:
        app.backend.mark_as_done(request.id, sum(request.args), request=request)


@app.task(base=Batches, flush_every=20, flush_interval=1, acks_late=True)
def late(requests: list[Any]) -> None:
    Redis.from_url(REDIS).rpush("late", *[request.args[0] for request in requests])


@app.task(base=Batches, flush_every=5, flush_interval=1, ignore_result=True)
def silent(requests: list[Any]) -> None:
    Redis.from_url(REDIS).incrby("silent", len(requests))


@app.task(base=Batches, flush_every=2, flush_interval=1)
def failing(requests: list[Any]) -> None:
    Redis.from_url(REDIS).incrby("failing", len(requests))
    raise ValueError("of the whole batch")


@app.task
def plain(number: int) -> int:
    return number + 1


def scenario() -> dict[str, Any]:
    redis = Redis.from_url(REDIS)
    seen: dict[str, Any] = {}
    with running_worker("batches", "-c", "4"):
        results = [count.delay(number, 1) for number in range(100)]
        beside = plain.delay(1)
        seen["results"] = [result.get(timeout=40) for result in results] == list(range(1, 101))
        seen["plain task beside"] = beside.get(timeout=20)
        seen["batches of 20"] = [int(size) for size in redis.lrange("sizes", 0, -1)]
        begun = time.monotonic()
        seen["fewer, by the interval"] = [count.delay(n, n).get(timeout=20) for n in (3,)]
        seen["waited for the interval"] = time.monotonic() - begun > 0.5
        for number in range(7):
            late.delay(number)
            silent.delay(number)
        for _ in range(4):
            failing.delay()
        seen["acks_late"] = len(wait_until(lambda: _all(redis, "late", 7)) or [])
        seen["ignore_result"] = wait_until(lambda: redis.get("silent") == b"7")
        seen["failing"] = wait_until(lambda: redis.get("failing") == b"4")
        seen["plain tasks afterwards"] = [plain.delay(n).get(timeout=20) for n in range(20)] == [
            *range(1, 21)
        ]
    with running_worker("batches", "-c", "4"):
        seen["after a restart"] = plain.delay(2).get(timeout=20)
        time.sleep(2)  # what a first worker had not settled would run again
        seen["run twice"] = redis.llen("late") + int(redis.get("silent") or 0) - 14
    return seen


def _all(redis: Any, key: str, number: int) -> list[bytes] | None:
    found: list[bytes] = redis.lrange(key, 0, -1)
    return found if len(found) >= number else None


if __name__ == "__main__":
    observe(scenario)
