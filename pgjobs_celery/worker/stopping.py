"""Celery's pool is not ended by a signal handler on top of code that may hold a lock.

Celery's handler of a cold shutdown ends the pool, and waits there until the last task has ended. It
may have interrupted a claim, or a transaction: what that holds, here or in the database, nobody
gets until the handler returns. A thread of the pool that needs it to end its task would never end
it; and of what ends meanwhile the handler would write in the middle of what it has interrupted.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

#: Celery's handler, which ends the pool.
HANDLER = ("celery.apps.worker", "on_cold_shutdown")


def is_loop_waiting(hub: Any) -> bool:
    """True in a signal handler that has interrupted an event loop which waits for news.

    Anywhere else it may have interrupted what holds a lock.
    """
    if hub is None:
        return False  # a blocking loop waits inside of the transport
    poll = type(hub.poller).poll.__code__
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not poll:
        frame = frame.f_back
    return frame is not None


class Stop:
    """Celery's ``stop`` of a pool, which a signal handler may have to leave to what it interrupts.

    That comes to its end first. Then the pool is ended where the worker leaves its loop, or, where
    it was leaving already, in its turn. ``tests/e2e/test_leaving.py`` fails if Celery changes
    underneath.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._stop = consumer.pool.stop
        controller = consumer.controller
        self._terminate = controller.terminate
        #: No other task may begin: the handler has told those that run to end.
        self.has_begun = False
        #: The pool is still to be ended.
        self.is_put_off = False
        consumer.pool.stop = self
        controller.terminate = self.terminate

    def __call__(self) -> None:
        """End the pool, now or as soon as the interrupted code has come to its end."""
        caller = sys._getframe(1)
        name = (caller.f_globals.get("__name__"), caller.f_code.co_name)
        self.has_begun = self.has_begun or name == HANDLER
        if name == HANDLER and not is_loop_waiting(self._consumer.hub):
            self.is_put_off = True
            transport: Any = getattr(self._consumer.connection, "transport", None)
            if hasattr(transport, "wake"):
                transport.wake(always=True)  # to see that it is to leave
        else:
            self._stop()

    def terminate(self, *args: Any, **kwargs: Any) -> None:
        """Celery's ``terminate`` of the worker, called when it has left its loop."""
        if self.is_put_off:
            if self._consumer.controller.semaphore:
                # Tasks that wait for room in the pool must not begin when another ends.
                self._consumer.controller.semaphore.clear()
            self._stop()
        self._terminate(*args, **kwargs)
