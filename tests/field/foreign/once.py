"""celery-once and celery-singleton: one job of its arguments at a time, by locks in Redis."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery_once import AlreadyQueued, QueueOnce
from celery_singleton import Singleton
from celery_singleton.exceptions import DuplicateTaskError
from observing import BROKER, REDIS, RESULTS, observe, running_worker

app = Celery("once", broker=BROKER, backend=RESULTS)
app.conf.ONCE = {
    "backend": "celery_once.backends.Redis",
    "settings": {"url": REDIS, "default_timeout": 60},
}
app.conf.update(singleton_backend_url=REDIS, task_default_queue="once")


@app.task(base=QueueOnce)
def once(number: int) -> int:
    return number


@app.task(base=QueueOnce, once={"graceful": True})
def graceful(number: int) -> int:
    return number


@app.task(base=Singleton)
def single(number: int) -> int:
    return number


@app.task(base=Singleton, raise_on_duplicate=True)
def strict(number: int) -> int:
    return number


@app.task(base=Singleton)
def failing() -> None:
    raise ValueError("the lock must go")


def scenario() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    first, other = once.delay(1), once.delay(2)
    seen["once: refused"] = _raises(AlreadyQueued, lambda: once.delay(1))
    kept = graceful.delay(1)
    seen["once: graceful"] = graceful.delay(1).state
    one, same, another = single.delay(1), single.delay(1), single.delay(2)
    seen["singleton: same id"] = (one.id == same.id, one.id == another.id)
    held = strict.delay(1)
    seen["singleton: refused"] = _raises(DuplicateTaskError, lambda: strict.delay(1))
    lost = failing.delay()
    with running_worker("once", "-c", "2"):
        waiting = (first, other, kept, one, same, another, held)
        seen["results"] = [result.get(timeout=20) for result in waiting]
        seen["failed"] = str(lost.get(timeout=20, propagate=False))
        again = (once.delay(1), single.delay(1), strict.delay(1))
        seen["again"] = [result.get(timeout=20) for result in again]
        seen["again after a failure"] = failing.delay().id != lost.id
    return seen


def _raises(error: type[Exception], call: Any) -> bool:
    try:
        call()
    except error:
        return True
    return False


if __name__ == "__main__":
    observe(scenario)
