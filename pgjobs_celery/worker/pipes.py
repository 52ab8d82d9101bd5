"""Hear a prefork pool's children before anything is decided about their tasks.

A child tells by its pipe that its task has ended. Celery's event loop fires its timers before it
looks at the pipes, so that after a stall of the main process (a database that is away, a table that
is locked, a machine that was suspended) a time limit that has run out meanwhile would be judged
first: a task that succeeded in time would fail, or run again. And it is not heard at all while a
soft shutdown sleeps, nor once the last task of a closed pool has ended: a child that has more to
say than its pipe holds could not leave, and its worker waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from inspect import isgenerator
from typing import Any

from billiard.connection import wait
from billiard.pool import RUN

from .stopping import is_loop_waiting

#: How long the rest of a message that has begun to come is waited for, in seconds.
REST = 1.0
#: How long a shutdown waits for news before it looks at what else there is to do, in seconds.
LOOK = 0.2


class Pipes:
    """The pipes of a prefork pool's children, as its main process reads them.

    Stands in for the methods of Celery's pool that judge time limits, and for what it does between
    two looks at the pipes when it is closed; ``tests/e2e/test_stalls.py`` fails if Celery changes
    underneath.
    """

    def __init__(self, pool: Any, hub: Any) -> None:
        self._pool = pool
        self._hub = hub
        self._thread = threading.get_ident()
        timeouts = pool._timeout_handler
        self._warn = timeouts.on_soft_timeout
        timeouts.on_soft_timeout = pool.on_soft_timeout = self._warn_once
        self._on_soft_timeout = pool._on_soft_timeout
        self._on_hard_timeout = pool._on_hard_timeout
        pool._on_soft_timeout = self._judge_soft
        pool._on_hard_timeout = self._judge_hard
        handler = pool._result_handler
        self._check_timeouts = handler.check_timeouts
        self._join_exited_workers = handler.join_exited_workers
        handler.check_timeouts = self._judge_all
        handler.join_exited_workers = self._judge_and_join
        self._stop_handler = handler.stop
        handler.stop = self._stop_and_hear

    def hear(self) -> None:
        """Read the children's reports. In the event loop's thread, between two callbacks."""
        for child in list(self._pool._fileno_to_outq.values()):
            self._read(child)

    def hear_during(self, pause: Callable[[], None]) -> None:
        """Call ``pause``, which sleeps, and go on reading meanwhile.

        In a signal handler, so only where that has interrupted an event loop that waits: elsewhere
        it may have interrupted what reads, or holds a lock. Then the reports are heard afterwards.
        """
        if not is_loop_waiting(self._hub):
            pause()
            return
        self.hear()
        sleeper = threading.Thread(target=pause, name="pgjobs-soft", daemon=True)
        sleeper.start()
        while sleeper.is_alive():
            wait(_readers(self._pool._fileno_to_outq.values()), LOOK)
            self._judge_all()

    def _judge_soft(self, job: int, soft: float, hard: float | None, hub: Any) -> None:
        if self._is_still_to_judge(job):
            self._on_soft_timeout(job, soft, hard, hub)

    def _judge_hard(self, job: int) -> None:
        if self._is_still_to_judge(job):
            self._on_hard_timeout(job)

    def _is_still_to_judge(self, job: int) -> bool:
        """Whether nothing has been heard of the end of this job of the pool."""
        if self._pool._state != RUN and threading.get_ident() != self._thread:
            # Celery fires timers from another thread while it waits for its children to end. Two
            # threads cannot read one pipe; the one that reads judges too, see _judge_all.
            return False
        result = self._pool._cache.get(job)
        if result is not None:
            for child in self._pool._pool:
                if child.pid == result._worker_pid:
                    self._read(child)
        return job in self._pool._cache

    def _warn_once(self, result: Any) -> None:
        # Timers and the closed pool each know only whom they have told themselves.
        if not hasattr(result, "is_warned"):
            result.is_warned = True
            self._warn(result)

    def _judge_all(self) -> None:
        """Judge the limits of what runs while the pool is closed."""
        self.hear()
        if self._check_timeouts is not None:
            self._check_timeouts()

    def _judge_and_join(self, *args: Any, **kwargs: Any) -> Any:
        # Celery looks at the pipes one by one, half a second at each that is empty.
        self._judge_all()
        return self._join_exited_workers(*args, **kwargs)

    def _stop_and_hear(self, *args: Any, **kwargs: Any) -> None:
        """Celery's ``stop`` of what reads the pipes, which ends with the last task; then read on.

        Its caller waits for each child next.
        """
        self._stop_handler(*args, **kwargs)
        children = [child for child in self._pool._pool if child._is_alive()]
        while children:
            gone = [child._popen.sentinel for child in children]
            ready = wait(_readers(children) + gone, LOOK)
            self.hear()
            children = [
                child
                for child in children
                if child._is_alive() and child._popen.sentinel not in ready
            ]

    def _read(self, child: Any) -> None:
        """Handle the messages that wait in a child's pipe, and the rest of one that has begun."""
        fd, reader, readers = child.outqR_fd, child.outq._reader, self._hub.readers
        try:
            while True:
                if reader.closed:
                    return
                begun = readers[fd][0] if fd in readers else None
                if not isgenerator(begun):
                    if not reader.poll(0):
                        return
                    self._pool._result_handler.handle_event(fd)
                elif begun.gi_frame is None:
                    break  # it was read to the end of the pipe, and not of the message
                elif reader.poll(REST):
                    next(begun, None)
                else:
                    return
                if fd not in readers:
                    return
        except (OSError, EOFError):
            pass
        # Its child has died, of which the pool hears otherwise.
        self._hub.remove_reader(fd)


def _readers(children: Iterable[Any]) -> list[Any]:
    readers = (child.outq._reader for child in children)
    return [reader for reader in readers if not reader.closed]
