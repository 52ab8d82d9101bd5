"""celery-progress shows how far a task is, by its view, whichever backend keeps the state."""

from __future__ import annotations

import json
from typing import Any

import django
from celery import Celery
from celery_progress.backend import ProgressRecorder
from django.conf import settings
from observing import BROKER, FOLDER, RESULTS, observe, running_worker, wait_until

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["celery_progress"],
    ROOT_URLCONF="celery_progress.urls",
    SECRET_KEY="of a test",
)
django.setup()

app = Celery("progress", broker=BROKER, backend=RESULTS)
app.conf.update(task_default_queue="progress", task_track_started=True)


@app.task(bind=True)
def long(self: Any, name: str) -> str:
    recorder = ProgressRecorder(self)
    recorder.set_progress(5, 10, "half")
    wait_until((FOLDER / name).exists, 20)
    recorder.increment_progress(by=5)
    return "done"


@app.task(bind=True)
def failing(self: Any) -> None:
    ProgressRecorder(self).set_progress(1, 2)
    raise ValueError("lost")


def scenario() -> dict[str, Any]:
    from django.test import Client

    client = Client()

    def ask(task_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(client.get(f"/{task_id}/").content)
        return answer

    seen: dict[str, Any] = {"unknown": ask("0" * 32)["state"]}
    with running_worker("progress", "-c", "2"):
        running = long.delay(f"go-{app.oid}")
        wait_until(lambda: ask(running.id)["state"] == "PROGRESS", 20)
        seen["half"] = ask(running.id)["progress"]
        (FOLDER / f"go-{app.oid}").touch()
        wait_until(lambda: ask(running.id)["complete"], 20)
        seen["end"] = ask(running.id)
        failed = failing.delay()
        wait_until(lambda: ask(failed.id)["complete"], 20)
        seen["failed"] = ask(failed.id)["result"]
    return seen


if __name__ == "__main__":
    observe(scenario)
