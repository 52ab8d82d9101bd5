"""Hear what a prefork pool's children have said before anything is decided about their tasks.

A child tells by its pipe that its task has ended. Celery's event loop fires its timers before it
looks at the pipes, so that after a stall of the main process (a database that is away, a table that
is locked, a machine that was suspended) a time limit that has run out meanwhile would be judged
first: a task that succeeded in time would fail, or run again. And it is not heard at all while a
soft shutdown sleeps.
"""

from __future__ import annotations

import threading
from inspect import isgenerator
from typing import Any

from billiard.pool import RUN

#: How long the rest of a message that has begun to come is waited for, in seconds.
REST = 1.0


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
        self._on_soft_timeout = pool._on_soft_timeout
        self._on_hard_timeout = pool._on_hard_timeout
        pool._on_soft_timeout = self._judge_soft
        pool._on_hard_timeout = self._judge_hard
        handler = pool._result_handler
        self._check_timeouts = handler.check_timeouts
        self._join_exited_workers = handler.join_exited_workers
        handler.check_timeouts = self._judge_all
        handler.join_exited_workers = self._judge_and_join

    def hear(self) -> None:
        """Read whatever any child has said. In the event loop's thread, between two callbacks."""
        for child in list(self._pool._fileno_to_outq.values()):
            self._read(child)

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

    def _judge_all(self) -> None:
        """Judge the limits of what runs while the pool is closed."""
        self.hear()
        if self._check_timeouts is not None:
            self._check_timeouts()

    def _judge_and_join(self, *args: Any, **kwargs: Any) -> Any:
        # Celery looks at the pipes one by one, half a second at each that is empty.
        self._judge_all()
        return self._join_exited_workers(*args, **kwargs)

    def _read(self, child: Any) -> None:
        """Handle the messages that wait in a child's pipe, and the rest of one that has begun."""
        fd, reader, readers = child.outqR_fd, child.outq._reader, self._hub.readers
        try:
            while not reader.closed:
                begun = readers[fd][0] if fd in readers else None
                if not reader.poll(REST if isgenerator(begun) else 0):
                    return
                if isgenerator(begun):
                    next(begun, None)
                else:
                    self._pool._result_handler.handle_event(fd)
                if fd not in readers:
                    return  # the child has closed it
        except (OSError, EOFError):
            return  # it dies, and the pool will hear of it
