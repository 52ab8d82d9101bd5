"""Notice that the server has vanished without a word, and let go on what only takes long.

A machine that was switched off says nothing, and neither does a firewall that has forgotten the
connection. TCP does not tell either: nothing is unacknowledged while we wait for an answer, and a
proxy in between acknowledges everything. A time limit would end the long statements as well. So
whoever has waited for a while asks over a new connection whether the server still works for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Generator, Mapping
from typing import Any, TypeVar
from weakref import ref

import psycopg
from psycopg.abc import PQGen

from .deadline import OutOfTime, in_time, time_left
from .failures import is_full
from .sql import statement

RV = TypeVar("RV")

#: How long a server that is asked may take to answer, in seconds.
ANSWER = 4.0


class ConnectionLost(psycopg.OperationalError):
    """The connection is dead, although nothing says so."""


class Liveness:
    """Has a psycopg connection wait for as long as the server works on the answer, and no longer.

    It stands in for the connection's own ``wait``, through which every statement goes. No subclass,
    for who instruments psycopg's ``connect`` (OpenTelemetry) hands out psycopg's own class.
    """

    def __init__(
        self,
        connection: psycopg.Connection[tuple[Any, ...]],
        parameters: Mapping[str, Any],
        ask_after: float,
    ) -> None:
        # Weak, for the connection has us: its session must end as soon as it is dropped.
        self._reference = ref(connection)
        #: How to connect to the server that is asked; empty where it is not.
        self._parameters = parameters
        #: After how many seconds without an answer the server is asked.
        self._ask_after = ask_after
        #: The thread that waits for an answer; 0 for none.
        self.waiter = 0
        #: It is being closed, by a thread that tells the server first.
        self.is_left = False
        connection.wait = self.wait  # type: ignore[method-assign]

    @property
    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = self._reference()
        assert connection is not None  # it is what calls us
        return connection

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """As psycopg's; raises ConnectionLost, and OutOfTime where the thread has a limit."""
        self.waiter = threading.get_ident()
        try:
            connection = self._connection
            return type(connection).wait(connection, self._watched(gen), *args, **kwargs)
        except ConnectionLost:
            self._connection.close()
            raise
        except OutOfTime:
            self._leave()
            raise
        finally:
            self.waiter = 0

    def cut(self) -> None:
        """Have the thread that waits here see the connection end; from any thread."""
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)

    def _watched(self, gen: PQGen[RV]) -> Generator[Any, Any, RV]:
        ready: Any = None
        while True:
            try:
                state = gen.send(ready)
            except StopIteration as end:
                answer: RV = end.value
                return answer
            asked, is_served = time.monotonic(), True
            # psycopg comes back ten times a second, with or without an answer.
            while not (ready := (yield state)):
                if time_left() == 0:
                    raise OutOfTime("the server has not answered in the time that there was")
                if not is_served:  # nor has the answer come while the server was asked
                    raise ConnectionLost("the server has vanished: no answer, and no work on one")
                if time.monotonic() - asked >= self._ask_after:
                    is_served = in_time(self._is_served, lambda _: None)
                    asked = time.monotonic()

    def _leave(self) -> None:
        """Have the server give up what it does for us, if it still can, and close the connection.

        In a thread, for that may take as long as the answer. Left alone, the server would notice
        only when it has the answer, and whoever asks every second would soon have all its sessions.
        """
        self.is_left = True
        connection = self._connection

        def leave() -> None:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=ANSWER)
            connection.close()

        threading.Thread(target=leave, name="pgjobs-leaving", daemon=True).start()

    def _is_served(self) -> bool:
        """Ask the server whether it works for us."""
        if not self._parameters:
            return False
        try:
            with psycopg.connect(**self._parameters, autocommit=True) as asking:
                Liveness(asking, {}, ANSWER)  # who does not answer here is not asked again
                found = asking.execute(
                    statement("find_work", ""),
                    {
                        "asking": asking.info.backend_pid,
                        "waiting": self._connection.info.backend_pid,
                        "seconds": self._ask_after * 0.9,
                    },
                ).fetchone()
                return bool(found and found[0])
        except psycopg.Error as error:
            return is_full(error)  # then it is there, and may well be at work for us
