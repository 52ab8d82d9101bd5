"""Wait for results: by LISTEN, with a poll as the safety net; one connection for all threads."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from celery import states
from celery.backends.asynchronous import BaseResultConsumer
from celery.exceptions import TimeoutError as CeleryTimeoutError

from ..db import notify
from ..db.database import CONNECTION_ERRORS, OutOfTime, answered_by, unhurried
from ..db.notify import Listener, waiter
from ..scopes.steady import monotonic
from ..scopes.waker import Waker
from .waiters import ARE_FORGOTTEN, Waiters

#: How many announcements of results without a waiter are kept: taking one back costs a round trip,
#: keeping it only now and then a notification for nothing.
STALE = 64
#: How many results are read at a time.
CHUNK = 100
#: How long the connection is kept without a waiter, in seconds. No thread reads from it then, but
#: it still receives the notifications for others: a session whose client does not read stops when
#: the socket is full, and with it the end of the server's queue of notifications.
IDLE = 30.0
#: Seconds that the server may take to answer, however short the timeout is: a stored result is
#: handed over, but a silent server is not waited for.
GRACE = 1.0


class ResultConsumer(BaseResultConsumer):
    """Celery's consumer of results. Thread-safe: one of the threads that wait reads for all."""

    _connection_errors = CONNECTION_ERRORS
    #: The backend's.
    waiters: Waiters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reset()
        _consumers.add(self)

    def _reset(self) -> None:
        self._waiting: set[str] = set()
        #: Those of them that came after the last look at all.
        self._new: set[str] = set()
        self._announced: set[str] = set()
        #: Every state was announced, not only results: a caller has given an ``on_message``.
        self._sees_states = False
        self._listener: Listener | None = None
        self._next_poll = self._last_turn = 0.0
        self._changed = threading.Condition()
        self._is_reading = False
        self._turns = 0
        self._waker = Waker()

    def start(self, initial_task_id: str, **_: Any) -> None:
        """Celery calls this where it would open a connection; ours opens with the first wait."""

    def stop(self) -> None:
        """Close the connection; the next wait opens it again."""
        with self._changed:
            if not self._is_reading:
                self._drop_listener()

    def on_after_fork(self) -> None:
        """In a forked child: the connection and the waiters are the parent's."""
        self._reset()

    def consume_from(self, task_id: str) -> None:
        """Wait for this result, too."""
        with self._changed:
            self._waiting.add(task_id)
            self._new.add(task_id)
            if self._is_reading:
                self._waker.wake()

    def cancel_for(self, task_id: str) -> None:
        """End the wait for this result."""
        with self._changed:
            self._waiting.discard(task_id)
            self._new.discard(task_id)

    def on_state_change(self, meta: Any, message: Any) -> None:
        """Hand a result to all that wait for it."""
        super().on_state_change(meta, message)
        if ARE_FORGOTTEN and meta["status"] in states.READY_STATES:
            for result in self.waiters.of(meta["task_id"]):
                result._maybe_set_cache(meta)
                bucket = self.buckets.pop(result, None)
                if bucket is not None:
                    bucket.append(result)

    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **_: Any) -> None:
        """Before the wait. With no time to wait, one look is all there is."""
        if timeout is not None and timeout <= 0:
            with suppress(OutOfTime), answered_by(monotonic() + GRACE):
                self._look(self._all())

    def drain_events_until(
        self, p: Any, timeout: float | None = None, on_interval: Callable[[], Any] | None = None
    ) -> Iterator[None]:
        """As Celery's, which waits a whole second at a time, but no longer than ``timeout``.

        A timeout of 0 has had its look; Celery before 5.7 takes it for none.
        """
        if p.ready:
            return
        if timeout is not None and timeout <= 0:
            raise socket.timeout()  # noqa: UP041
        now = monotonic()
        end = float("inf") if timeout is None else now + timeout

        is_first = True

        def wait(timeout: float) -> None:
            nonlocal is_first
            left = end - monotonic()
            if left <= 0 and not is_first:
                # Celery looks at the program's clock, which may stand still in a test.
                raise CeleryTimeoutError("The operation timed out.")
            is_first = False
            with answered_by(max(end, now + GRACE)):
                self.drain_events(max(0.0, min(timeout, left)))

        yield from self.drainer.drain_events_until(
            p, timeout=timeout, on_interval=on_interval, wait=wait
        )

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait up to ``timeout`` seconds for news; raises socket.timeout without any."""
        with self._changed:
            if self._is_reading:
                turn = self._turns
                self._changed.wait(timeout)
                if turn == self._turns:
                    raise socket.timeout()  # noqa: UP041
                return
            self._is_reading = True
        outage = self.backend.database.outage
        try:
            self._read(timeout)
            if outage.is_noticed_by("results"):
                outage.works("results")
        except OutOfTime:
            self._look_anew()
            raise socket.timeout() from None  # noqa: UP041
        except CONNECTION_ERRORS as error:
            outage.lost("results", error)
            self._look_anew()
            time.sleep(min(0.5, 0.5 if timeout is None else timeout))
        finally:
            with self._changed:
                self._is_reading = False
                self._last_turn = monotonic()
                self._turns += 1
                self._changed.notify_all()

    def _look_anew(self) -> None:
        """Treat all results as new for the next reader: announcements may have been lost."""
        self._drop_listener()
        with self._changed:
            self._new.update(self._waiting)

    def _read(self, timeout: float | None) -> None:
        end = float("inf") if timeout is None else monotonic() + timeout
        while True:
            new = self._take_new()
            if self.on_message is not None and not self._sees_states:
                new = self._all()
            if new and self._listener is not None and self._listener.is_refused:
                # A refused LISTEN may be granted now, and notifications were missed.
                new = self._all()
            if new:
                # In this order: a result that came before the announcement did not notify.
                self._announce(new)
                if self._look(new, with_states=self._sees_states):
                    return
            if self._listener is not None:
                self._listener.announce_again()
            if monotonic() >= self._next_poll and self._look(self._all()):
                return
            now = monotonic()
            if now >= end:
                raise socket.timeout()  # noqa: UP041
            heard = self._wait(min(end, self._next_poll) - now) & self._waiting
            if heard:
                self._hand_over(heard)
                return

    def _announce(self, new: set[str]) -> None:
        """Announce the results that are new to this consumer."""
        if not self.backend.database.options.listen:
            return
        if self._listener is None:
            self._listener = self.backend.database.listen_for_results()
            threading.Thread(
                target=self._close_idle, args=(self._listener,), name="pgjobs-idle", daemon=True
            ).start()
            self._announced = set()
            new = new | self._all()
        self._sees_states = self.on_message is not None
        kinds = (notify.RESULT, notify.STATE) if self._sees_states else (notify.RESULT,)
        if not {waiter(task_id, kind) for task_id in new for kind in kinds} <= self._announced:
            needed = {waiter(task_id, kind) for task_id in new | self._all() for kind in kinds}
            stale = self._announced - needed
            self._announced = needed if len(stale) > STALE else needed | stale
            self._listener.announce(self._announced)

    def _take_new(self) -> set[str]:
        with self._changed:
            new, self._new = self._new, set()
        return new

    def _all(self) -> set[str]:
        with self._changed:
            return set(self._waiting)

    def _wait(self, seconds: float) -> set[str]:
        """Wait until results arrive or another thread begins to wait; return the arrived ids."""
        if heard := self._read_listener():  # it came while an announcement ran
            return heard
        # Not select(): a web server may have more than 1,024 files open.
        with selectors.DefaultSelector() as selector:
            selector.register(self._waker, selectors.EVENT_READ)
            if self._listener is not None:
                selector.register(self._listener, selectors.EVENT_READ)
            readable = [key.fileobj for key, _ in selector.select(max(0.0, seconds))]
        if self._waker in readable:
            self._waker.drain()
        return self._read_listener() if self._listener in readable else set()

    def _read_listener(self) -> set[str]:
        payloads = self._listener.read() if self._listener is not None else set()
        kinds = notify.RESULT if self.on_message is None else notify.RESULT + notify.STATE
        # Any program may NOTIFY with an empty payload.
        return {payload[1:] for payload in payloads if payload and payload[0] in kinds}

    def _look(self, task_ids: Iterable[str], *, with_states: bool = False) -> bool:
        """Hand over those that have finished, or reported a state; True if any had."""
        wanted = list(task_ids)
        database = self.backend.database
        options = database.options
        # Without LISTEN only the poll finds results, and a thread waits for the answer.
        self._next_poll = monotonic() + (options.poll if options.listen else options.poll / 2)
        if self._listener is not None:
            self._next_poll = min(self._next_poll, self._listener.refusals.due_at)
        if not wanted:
            return False
        if with_states:
            return self._hand_over(wanted)
        finished = database.retrying(lambda: database.results.finished_ids(wanted))
        self._hand_over(finished)
        return bool(finished)

    def _hand_over(self, task_ids: Iterable[str]) -> bool:
        wanted, is_any = list(task_ids), False
        for start in range(0, len(wanted), CHUNK):
            for meta in self.backend.read_results(wanted[start : start + CHUNK]):
                if meta["status"] != states.PENDING:
                    with unhurried():  # this runs callbacks of applications, too
                        self.on_state_change(meta, None)
                    is_any = True
        return is_any

    def _close_idle(self, listener: Listener) -> None:
        """In a thread: close the connection when no thread has waited for a while."""
        pause = IDLE
        while pause > 0:
            time.sleep(pause)
            with self._changed:
                if self._listener is not listener:
                    return
                pause = IDLE if self._is_reading else self._last_turn + IDLE - monotonic()
                if pause <= 0:
                    self._drop_listener()
                    self._new.update(self._waiting)

    def _drop_listener(self) -> None:
        listener, self._listener = self._listener, None
        self._announced = set()
        self._sees_states = False
        if listener is not None:
            listener.close()


_consumers: weakref.WeakSet[ResultConsumer] = weakref.WeakSet()


def _forget_parent() -> None:
    """In a forked child, however it was forked: waiters and their sockets are the parent's."""
    for consumer in list(_consumers):
        consumer.backend.forget_waiters()


os.register_at_fork(after_in_child=_forget_parent)
