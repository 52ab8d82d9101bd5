"""A prefork pool of one process, and tasks that are taken back from it.

Run by test_pool.py with a folder; prints as JSON what :meth:`WorkerPool.take_back` said of a task
that runs, one that waits for the child, and one that Celery has flushed, and which tasks ran.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from celery import Celery
from celery.concurrency.prefork import TaskPool
from kombu.asynchronous import Hub, set_event_loop
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from pgjobs_celery.worker.pool import WorkerPool


def run(folder: str, name: str) -> str:
    with (Path(folder) / "ran").open("a") as ran:
        ran.write(f"{name}\n")
    while name == "first" and not (Path(folder) / "release").exists():
        time.sleep(0.01)
    return name


@dataclass(frozen=True)
class Request:
    """As far as Celery's record of what runs needs it."""

    id: str


def main(folder: str) -> None:
    app = Celery("tests.taken", broker="memory://")
    app.set_current()
    app.set_default()
    hub = Hub()
    set_event_loop(hub)
    semaphore = LaxBoundedSemaphore(1)
    pool = TaskPool(
        1, app=app, threads=False, initargs=(app, "taken@here"), putlocks=False, semaphore=semaphore
    )
    pool.start()
    controller = SimpleNamespace(semaphore=semaphore, terminate=pool.terminate)
    ours = WorkerPool(SimpleNamespace(pool=pool, hub=hub, controller=controller))
    ours.start()
    pool.register_with_event_loop(hub)
    answers: list[str] = []

    def send(name: str) -> Any:
        return pool.apply_async(run, (folder, name), callback=answers.append)

    def turn_until(is_done: Any) -> None:
        while not is_done():
            next(hub.loop)

    semaphore.acquire(lambda: None)
    first = send("first")
    turn_until((Path(folder) / "ran").exists)
    taken = [ours.take_back(Request("first"), first)]
    taken.append(ours.take_back(Request("second"), send("second")))
    flushed = send("flushed")
    pool.flush()
    taken.append(ours.take_back(Request("flushed"), flushed))
    turn_until(lambda: semaphore.value == 1)  # the place of the second is free again
    (Path(folder) / "release").touch()
    turn_until(lambda: answers == ["first"])
    send("third")
    turn_until(lambda: len(answers) == 2)
    pool.stop()
    print(json.dumps([taken, (Path(folder) / "ran").read_text().split()]))


if __name__ == "__main__":
    main(sys.argv[1])
