"""Statements that were sent to the server, and whose answer comes while other things are done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg

from .connection import Call, Connection, Row


def _do_nothing() -> None:
    pass


class Flight:
    """An exchange that is under way. An event loop reads its answer, or any thread waits for it.

    The connection is nobody else's until all of the answer is there; then ``give_back`` gets it.
    Until then it is one of the ``others``.
    What goes wrong is told to whoever asks for the answer.
    """

    def __init__(
        self,
        connection: Connection,
        transactions: Sequence[Sequence[Call]],
        others: set[Flight],
        give_back: Callable[[Connection], None],
    ) -> None:
        self._connection = connection
        self._others = others
        self._give_back = give_back
        self._lock = threading.Lock()
        self._rows: list[list[Row]] = []
        self._error: BaseException | None = None
        #: All of the answer has been read.
        self.has_landed = False
        self._unwatch = self._wake = _do_nothing
        try:
            self._answer = connection.receive(connection.wait(connection.send(transactions)))
        except BaseException:
            give_back(connection)
            raise
        self._thread = threading.get_ident()
        connection.liveness.expect()
        others.add(self)

    @property
    def is_own(self) -> bool:
        """True in the thread that sent it."""
        return self._thread == threading.get_ident()

    def watch(self, loop: Any, wake: Callable[[], None]) -> None:
        """Have this event loop read the answer; any thread calls ``wake`` when it is there."""
        self._wake = wake
        if self._lock.acquire(blocking=False):  # or another thread waits for it
            try:
                if not self.has_landed:
                    number = self._connection.fileno()
                    loop.add_reader(number, self.poll)
                    self._unwatch = partial(loop.remove, number)
                    return
            finally:
                self._lock.release()
        if self.has_landed:
            wake()

    def unwatch(self) -> None:
        """Have no event loop look for the answer any more."""
        unwatch, self._unwatch = self._unwatch, _do_nothing
        unwatch()

    def poll(self) -> None:
        """Read what has come of the answer; does not wait, and raises nothing of the server's."""
        if self.has_landed or not self._lock.acquire(blocking=False):
            return  # another thread waits for it
        try:
            if not self.has_landed:
                self._read()
        finally:
            self._lock.release()

    def _read(self) -> None:
        try:
            next(self._answer)
        except StopIteration as end:
            self._land(end.value)
        except BaseException as error:
            self._land([], error)
            if not isinstance(error, Exception):
                raise
        else:
            self._connection.liveness.expect()  # for the rest

    def finish(self) -> list[list[Row]]:
        """Wait for the answer; as :meth:`Connection.run` returns and raises it."""
        if not self.has_landed:
            with self._lock:
                if not self.has_landed:
                    self._wait()
        if self._error is not None:
            raise self._error
        return self._rows

    def _wait(self) -> None:
        # Before the wait: it may close the socket, and another gets its number.
        self.unwatch()
        try:
            rows = self._connection.wait(self._answer)
        except BaseException as error:
            self._land([], error)
            raise
        self._land(rows)

    def _land(self, rows: list[list[Row]], error: BaseException | None = None) -> None:
        self.unwatch()
        self._rows, self._error = rows, error
        self._connection.liveness.rest()
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._connection.close()
        self._others.discard(self)
        self._give_back(self._connection)
        self.has_landed = True
        self._wake()


class Landed(Flight):
    """One whose answer is there from the beginning."""

    def __init__(self, rows: list[list[Row]]) -> None:
        self._rows, self._error, self.has_landed = rows, None, True
