"""Wait for results: by LISTEN, with a poll as the net; one connection for all threads."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

from celery.backends.asynchronous import BaseResultConsumer
from celery.utils.log import get_logger

from .db import notify
from .db.database import CONNECTION_ERRORS
from .db.notify import Listener, waiter

logger = get_logger(__name__)

#: How many announcements of results that nobody waits for any more are kept: taking one back costs
#: a round trip, leaving it only now and then a notification for nothing.
STALE = 64


class ResultConsumer(BaseResultConsumer):  # type: ignore[misc]
    """Celery's consumer of results. Thread-safe: one of the threads that wait reads for all."""

    _connection_errors = CONNECTION_ERRORS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reset()

    def _reset(self) -> None:
        self._waiting: set[str] = set()
        #: Those of them that came after the last look at all.
        self._new: set[str] = set()
        self._announced: set[str] = set()
        self._listener: Listener | None = None
        self._next_poll = 0.0
        self._changed = threading.Condition()
        self._is_reading = False
        self._turns = 0
        self._waker: tuple[socket.socket, socket.socket] | None = None

    def start(self, initial_task_id: str, **_: Any) -> None:
        """Celery calls this where it would open a connection; ours opens with the first wait."""

    def stop(self) -> None:
        """Close the connection; the next wait opens it again."""
        with self._changed:
            if not self._is_reading:
                self._drop_listener()

    def on_after_fork(self) -> None:
        """The connection is the parent's, and so are those who wait."""
        self._reset()

    def consume_from(self, task_id: str) -> None:
        """Wait for this result, too."""
        self._waiting.add(task_id)
        self._new.add(task_id)
        if self._is_reading and self._waker is not None:
            self._waker[1].send(b"\0")

    def cancel_for(self, task_id: str) -> None:
        """Nobody waits for this result any more."""
        self._waiting.discard(task_id)

    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **_: Any) -> None:
        """Before the wait. With no time to wait, one look is all there is."""
        if timeout is not None and timeout <= 0:
            self._look(self._waiting)

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait up to ``timeout`` seconds for news; raises socket.timeout if there is none."""
        with self._changed:
            if self._is_reading:
                turn = self._turns
                self._changed.wait(timeout)
                if turn == self._turns:
                    raise socket.timeout()  # noqa: UP041
                return
            self._is_reading = True
        try:
            self._read(timeout)
        except CONNECTION_ERRORS as error:
            logger.warning("waiting for results, the connection was lost, trying again: %s", error)
            self._drop_listener()
            self._new.update(self._waiting)
            time.sleep(min(0.5, 0.5 if timeout is None else timeout))
        finally:
            with self._changed:
                self._is_reading = False
                self._turns += 1
                self._changed.notify_all()

    def _read(self, timeout: float | None) -> None:
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            if self._announce() and self._look(self._take_new()):
                return
            if time.monotonic() >= self._next_poll and self._look(set(self._waiting)):
                return
            now = time.monotonic()
            if now >= end:
                raise socket.timeout()  # noqa: UP041
            heard = self._wait(min(end, self._next_poll) - now) & self._waiting
            if heard:
                for task_id in heard:
                    self._hand_over(task_id)
                return

    def _announce(self) -> bool:
        """Have the results that are new to us announced; True if there are new ones.

        Look after this, and before waiting: what came before the announcement woke nobody.
        """
        if not self._new:
            return False
        if self.backend.database.options.listen:
            if self._listener is None:
                self._listener = self.backend.database.listen_for_results()
                self._announced = set()
            needed = {waiter(task_id) for task_id in set(self._waiting)}
            if not needed <= self._announced:
                stale = self._announced - needed
                self._announced = needed if len(stale) > STALE else needed | stale
                self._listener.announce(self._announced)
        return True

    def _take_new(self) -> set[str]:
        new, self._new = self._new, set()
        return new

    def _wait(self, seconds: float) -> set[str]:
        """Until results are announced or somebody else begins to wait; the ids announced."""
        if self._waker is None:
            self._waker = socket.socketpair()
            for end in self._waker:
                end.setblocking(False)
        sources: list[Any] = [self._waker[0]]
        if self._listener is not None:
            sources.append(self._listener)
        readable, _, _ = select.select(sources, [], [], max(0.0, seconds))
        if self._waker[0] in readable:
            self._waker[0].recv(4096)
        if self._listener is None or self._listener not in readable:
            return set()
        return {
            payload[1:] for payload in self._listener.read() if payload.startswith(notify.RESULT)
        }

    def _look(self, task_ids: Iterable[str]) -> bool:
        """Hand over those that have finished; True if any had."""
        wanted = list(task_ids)
        database = self.backend.database
        options = database.options
        # Without LISTEN the poll is all there is, and somebody waits for the answer.
        self._next_poll = time.monotonic() + (options.poll if options.listen else options.poll / 2)
        if not wanted:
            return False
        finished = database.retrying(lambda: database.results.finished_ids(wanted))
        for task_id in finished:
            self._hand_over(task_id)
        return bool(finished)

    def _hand_over(self, task_id: str) -> None:
        self.on_state_change(self.backend.get_task_meta(task_id, cache=False), None)

    def _drop_listener(self) -> None:
        listener, self._listener = self._listener, None
        self._announced = set()
        if listener is not None:
            listener.close()
