"""A prefork pool of one process as a worker has it, and how its pipes are written and read.

Run by test_pipes.py, with Celery's word for how children get tasks; prints a line of JSON for each
body, which its child sends back: the size that came back, how many bytes each write took, how many
turns of the event loop it needed, and how often pipes were entered into the loop to be written.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from celery import Celery
from celery.concurrency.prefork import TaskPool
from kombu.asynchronous import WRITE, Hub, set_event_loop

from pgjobs_celery.worker.pipe_io import PipeIO
from pgjobs_celery.worker.pipes import Pipes


def echo(body: bytes) -> bytes:
    return body


def main(strategy: str, *sizes: int) -> None:
    app = Celery("tests.piped", broker="memory://")
    app.set_current()
    app.set_default()
    hub = Hub()
    set_event_loop(hub)
    asked: list[int] = []
    add = hub.add

    def note(fd: Any, callback: Any, flags: int, *args: Any, **options: Any) -> None:
        if flags & WRITE:
            asked.append(fd)
        add(fd, callback, flags, *args, **options)

    hub.add = note
    pool = TaskPool(
        1, app=app, threads=False, initargs=(app, "piped@here"), sched_strategy=strategy
    )
    pool.start()
    processes: Any = pool._pool
    PipeIO(processes, hub)
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
    for _ in range(2):  # what the child says of itself
        next(hub.loop)
    for size in sizes:
        answers: list[bytes] = []
        writes.clear()
        asked.clear()
        turns = 0
        pool.apply_async(echo, (bytes(size),), callback=answers.append)
        while not answers:
            next(hub.loop)
            turns += 1
        print(json.dumps([size, len(answers[0]), writes, turns, len(asked)]), flush=True)
    pool.stop()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
