"""Nautobot passes the user and the job's model on as options that Celery does not know."""

from __future__ import annotations

from typing import Any

from celery import Celery, chain
from observing import BROKER, RESULTS, observe, running_worker

NAMES = ("nautobot_job_user_id", "nautobot_job_job_model_id", "nautobot_job_profile")

app = Celery("nautobot_pattern", broker=BROKER, backend=RESULTS)
app.conf.update(task_default_queue="default", task_track_started=True)


@app.task(bind=True, max_retries=1)
def run_job(self: Any, *_: Any, again: bool = False) -> list[Any]:
    if again and not self.request.retries:
        raise self.retry(countdown=0.1)
    return [self.request.properties.get(name) for name in NAMES]


def scenario() -> dict[str, Any]:
    options = dict(zip(NAMES, ("42", "job-model", {"a": [1, None]}), strict=True))
    seen: dict[str, Any] = {}
    with running_worker("nautobot_pattern", "-c", "1"):
        seen["properties"] = run_job.apply_async(**options).get(timeout=20)
        retried = run_job.apply_async(kwargs={"again": True}, **options)
        seen["after a retry"] = retried.get(timeout=20)
        first = run_job.si().set(nautobot_job_user_id="7")
        seen["from a chain"] = chain(first, first.clone()).delay().get(timeout=20)
        queues = app.control.inspect(timeout=5).active_queues() or {}
        seen["worker on the queue"] = any(
            queue["name"] == "default" for listed in queues.values() for queue in listed
        )
    return seen


if __name__ == "__main__":
    observe(scenario)
