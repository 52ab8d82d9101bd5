"""A prefork pool of one process as a worker has it, and the writes that take tasks to its child.

Run by test_pipes.py; prints a line of JSON for each body: its size, what the child made of it, and
how many bytes each write took.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from celery import Celery
from celery.concurrency.prefork import TaskPool
from kombu.asynchronous import Hub, set_event_loop

from pgjobs_celery.worker.pipes import Pipes


def measure(body: bytes) -> int:
    return len(body)


def main(*sizes: int) -> None:
    app = Celery("tests.piped", broker="memory://")
    app.set_current()
    app.set_default()
    hub = Hub()
    set_event_loop(hub)
    pool = TaskPool(1, app=app, threads=False, initargs=(app, "piped@here"))
    pool.start()
    processes: Any = pool._pool
    Pipes(processes, hub)
    # As with the first connection, and when that was lost.
    for _ in range(2):
        pool.register_with_event_loop(hub)
    (child,) = processes._pool
    send = child.send_job_offset
    writes: list[int] = []

    def count(data: Any, offset: int) -> int:
        written: int = send(data, offset)
        writes.append(written)
        return written

    child.send_job_offset = count
    for size in sizes:
        answers: list[int] = []
        writes.clear()
        pool.apply_async(measure, (bytes(size),), callback=answers.append)
        while not answers:
            next(hub.loop)
        print(json.dumps([size, answers[0], writes]), flush=True)
    pool.stop()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
