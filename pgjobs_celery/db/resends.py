"""Remember what was sent without an answer: sent again, it is the same job and not another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ConnectionFailed
from .connection import CONNECTION_ERRORS

#: How many ids are remembered; of more than that the oldest are forgotten.
LIMIT = 10_000


class Unanswered:
    """The jobs whose publishing was cut off by a lost connection: they may be there. Thread-safe.

    kombu publishes them again (``task_publish_retry_policy``), over a new channel, after seconds in
    which they may have run and ended. It is for the process to know what it has sent.
    """

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def sending(self, task_id: str) -> Iterator[float | None]:
        """Send it in this block; when it was sent first, by the monotonic clock, if it was."""
        first = self._first.get(task_id)
        begun = time.monotonic()
        try:
            yield first
        except ConnectionFailed:
            raise  # there was no server to send it to
        except CONNECTION_ERRORS:
            with self._lock:
                self._first.setdefault(task_id, begun)
                if len(self._first) > LIMIT:
                    del self._first[next(iter(self._first))]
            raise
        if first is not None:
            with self._lock:
                self._first.pop(task_id, None)
