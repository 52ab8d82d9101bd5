"""Airflow's executor ignores a redelivered task that runs elsewhere, and reads states in bulk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Ignore
from observing import BROKER, FOLDER, RESULTS, observe, running_worker, wait_until

app = Celery("airflow_pattern", broker=BROKER, backend=RESULTS)
app.conf.update(
    task_acks_late=True,
    task_default_queue="default",
    task_reject_on_worker_lost=True,
    task_track_started=True,
    worker_prefetch_multiplier=1,
)
#: Seconds for a killed worker's task to come back. On Redis it does after an hour.
PATIENCE = 15 if BROKER.startswith("redis:") else 60


@app.task
def execute_workload(name: str) -> None:
    runs = FOLDER / name
    with runs.open("a") as file:
        file.write("run\n")
    if len(runs.read_text().splitlines()) == 1:
        time.sleep(600)  # until it is killed


@app.task
def ignored() -> None:
    raise Ignore("Task already running elsewhere, ignoring redelivered message")


def scenario() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    runs = FOLDER / f"runs-{time.monotonic_ns()}"
    with running_worker("airflow_pattern", "-P", "threads", "-c", "2") as first:
        duplicate = ignored.delay()
        seen["after Ignore"] = wait_until(
            lambda: duplicate.state if duplicate.state != "PENDING" else None, 10
        )
        time.sleep(0.5)  # the state that the end of the job leaves
        seen["after Ignore"] = duplicate.state
        killed = execute_workload.delay(runs.name)
        wait_until(runs.exists)
        first.kill()
        first.wait()
    with running_worker("airflow_pattern", "-P", "threads", "-c", "2"):
        wait_until(lambda: app.backend.get_task_meta(killed.id)["status"] == "SUCCESS", PATIENCE)
        seen["killed and run again"] = killed.state
        seen["runs"] = len(Path(runs).read_text().splitlines())
    return seen


if __name__ == "__main__":
    observe(scenario)
