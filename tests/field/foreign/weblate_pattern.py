"""Weblate reads the lengths of its queues by declaring them, and pings itself through Celery."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.result import AsyncResult
from observing import BROKER, RESULTS, observe, running_worker

QUEUES = ("weblate", "notify", "translate")

app = Celery("weblate_pattern", broker=BROKER, backend=RESULTS)
app.conf.update(
    task_default_queue="weblate",
    task_create_missing_queues=True,
    task_routes={"weblate.notify": {"queue": "notify"}},
)


@app.task
def ping() -> dict[str, str]:
    return {"version": "1"}


@app.task(name="weblate.notify")
def notify() -> None:
    pass


def scenario() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    pings = [ping.delay() for _ in range(3)]
    notified = [notify.delay() for _ in range(2)]
    seen["lengths"] = queue_lengths()
    with running_worker("weblate_pattern", "-c", "1", "-Q", ",".join(QUEUES)):
        seen["ping"] = AsyncResult(pings[0].id, app=app).get(timeout=20) == {"version": "1"}
        for result in [*pings, *notified]:
            result.get(timeout=20)
    seen["after the work"] = queue_lengths()
    for _ in range(4):
        ping.delay()
    seen["purged"] = app.control.purge()
    return seen


def queue_lengths() -> dict[str, int]:
    with app.connection_or_acquire() as connection:
        return {
            name: connection.default_channel.queue_declare(
                queue=name, durable=True, auto_delete=False
            ).message_count
            for name in QUEUES
        }


if __name__ == "__main__":
    observe(scenario)
