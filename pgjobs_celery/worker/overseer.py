"""Notice that a worker holds jobs which nothing of it runs, say so, and end them.

The cause may be a pool that drops what its thread has raised, or a library that takes a request and
keeps it. Each is a place in the pool less, and in the end the worker takes no job any more, its
heart beating. A pool that runs something is asked nothing more; so it costs a look at each poll.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import thread
from typing import TYPE_CHECKING, Any

from billiard.exceptions import WorkerLostError
from celery.worker import state

from ..broker.message import Message
from ..job.outcome import discarded, error_from
from ..job.rows import ClaimKey
from ..printable import guarded
from ..scopes.frames import frame_of
from .losses import raised
from .pool import is_solo

if TYPE_CHECKING:
    from ..node.node import Node

logger = guarded(logging.getLogger(__name__))

#: At how many looks in a row, one at each poll, the pool must have run nothing, and for how many
#: seconds at the least: where polls are close together, what ends just now may take longer.
LOOKS, STUCK_AFTER = 4, 5.0
#: In which a thread of an executor waits.
_LOOP = thread._worker.__code__
#: A job, and its attempt.
Key = tuple[int, int]


def runs_nothing(pool: Any) -> bool:
    """True if one of Celery's pools has nothing to do; False where that is not known."""
    inner = getattr(pool, "_pool", None)
    if (cache := getattr(inner, "_cache", None)) is not None:
        return not cache  # billiard's: tasks whose end it has not reported
    if (greenlets := getattr(pool, "_pool_map", None)) is not None:
        return not greenlets
    if (executor := getattr(pool, "executor", None)) is not None:
        return executor._work_queue.empty() and all(map(is_idle, list(executor._threads)))
    return is_solo(pool) and not state.active_requests


def is_idle(worker: threading.Thread) -> bool:
    """True if a thread of an executor waits for work.

    Its innermost frame is then the executor's own loop. The executor's count of idle threads is of
    no use: one that takes a job just as it is about to wait is counted as idle from then on.
    """
    frame = frame_of(worker)
    return frame is None or frame.f_code is _LOOP


class Overseer:
    """Looks at what a worker holds, from the thread of its maintenance."""

    def __init__(self, consumer: Any, node: Node) -> None:
        self._consumer = consumer
        self._node = node
        #: At how many looks each was held with nothing running, and since when.
        self._looks: dict[Key, tuple[int, float]] = {}

    def look(self) -> None:
        """End what was held at the last looks too, with nothing running."""
        held = self._held() if runs_nothing(self._consumer.pool) else {}
        now = time.monotonic()
        before = {key: self._looks.get(key, (0, now)) for key in held}
        self._looks = {key: (looks + 1, since) for key, (looks, since) in before.items()}
        if stuck := {
            key: held[key]
            for key, (looks, since) in self._looks.items()
            if looks >= LOOKS and now - since >= STUCK_AFTER
        }:
            logger.error(
                "the pool runs nothing, and has not reported the end of jobs %s; they are given up",
                ", ".join(str(id) for id, _ in stuck),
            )
            self._consumer.call_soon(self._end, stuck)

    def _held(self) -> dict[Key, Any]:
        """The jobs that are neither settled nor waiting for anything; each with its request."""
        requests = {
            (message.claim.id, message.claim.attempt): request
            for request in list(state.requests.values())
            if isinstance(message := request._message, Message) and message.claim is not None
        }
        waiting = set(self._waiting())
        return {
            key: requests.get(key)
            for key in self._node.held_claims()
            if key in requests or key not in waiting
        }

    def _waiting(self) -> Iterable[Key]:
        """Jobs that wait in a channel for room; or outside of it, for their rate or their batch."""
        for channel in self._node.watchers():
            yield from channel.waiting()

    def _end(self, stuck: dict[Key, Any]) -> None:
        """In the worker's own thread."""
        error = WorkerLostError("the pool runs nothing, and has not reported the end of the task")
        is_unbegun = False
        for (id, attempt), request in stuck.items():
            if (id, attempt) not in self._node.held_claims():
                continue
            if request is not None and not request._message.is_started:
                is_unbegun = True
                continue
            try:
                if request is not None:
                    request.on_failure(raised(error))
            except Exception:
                logger.exception("job %s could not be ended as Celery would", id)
            if (id, attempt) in self._node.held_claims():
                self._node.settle(discarded(ClaimKey(id, attempt), error_from(error)))
        if is_unbegun:
            # They go back in line, and Celery's count of the places in its pool begins anew.
            for channel in self._node.watchers():
                channel.reconnect("jobs wait for a pool that runs nothing")
