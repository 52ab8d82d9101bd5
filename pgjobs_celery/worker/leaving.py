"""Hear of cancelled jobs while the worker leaves: its event loop, which hears otherwise, does not.

A warm shutdown waits for the pool when the loop has ended, a soft one sleeps in a signal handler on
top of it. Both may last for as long as a task does.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ..db.database import CONNECTION_ERRORS
from ..printable import guarded

if TYPE_CHECKING:
    from ..node.node import Node

logger = guarded(logging.getLogger(__name__))

#: How often it looks, in seconds: a coroutine is told within half a second.
INTERVAL = 0.25


class Hearing:
    """A thread that ends cancelled jobs, for as long as the worker leaves."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stopped: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, where it has not begun."""
        if self._stopped is None:
            self._stopped = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stopped,), name="pgjobs-leaving", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """The worker has left, or consumes again."""
        if self._stopped is not None and self._thread is not None:
            self._stopped.set()
            self._thread.join(timeout=1.0)  # a statement may wait for a server that is away
            self._stopped = self._thread = None

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(INTERVAL):
            try:
                self._node.end_cancelled()
            except CONNECTION_ERRORS as error:
                logger.debug("cancellations cannot be heard: %s", error)
            except Exception:
                logger.exception("a job that was cancelled could not be ended")
