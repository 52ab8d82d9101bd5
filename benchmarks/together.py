"""Several processes that publish at the same time."""

import multiprocessing
from collections.abc import Callable
from typing import Any


def publish_together(
    publish: Callable[[Any, int, int, Any, Any], None], what: Any, count: int, processes: int
) -> dict[str, float]:
    """Have each process publish COUNT, all at once: the seconds from first to last, and their CPU.

    ``publish`` gets what to publish, its first number and the count; it waits at the barrier, and
    puts into the queue when it began, when it ended and its CPU.
    """
    context = multiprocessing.get_context("spawn")
    ready, sent = context.Barrier(processes), context.SimpleQueue()
    others = [
        context.Process(target=publish, args=(what, number * count, count, ready, sent))
        for number in range(processes)
    ]
    for process in others:
        process.start()
    spans = [sent.get() for _ in others]
    for process in others:
        process.join()
    began, ended, cpu = zip(*spans, strict=True)
    return {"seconds": max(ended) - min(began), "cpu": sum(cpu)}
