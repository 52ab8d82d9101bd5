"""Wake a thread that waits for sockets."""

from __future__ import annotations

import socket
from contextlib import suppress


class Waker:
    """A socket for a thread to wait for, that any other thread can make readable."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        for end in (self._reading, self._writing):
            end.setblocking(False)
        #: The thread was woken, and has not drained the socket yet.
        self.is_woken = False

    def fileno(self) -> int:
        """The socket, for ``select()`` or an event loop."""
        return self._reading.fileno()

    def wake(self) -> None:
        """Make the socket readable until :meth:`drain`; from any thread."""
        if self.is_woken:
            return
        self.is_woken = True
        try:
            self._writing.send(b"\0")
        except OSError:  # closed by the thread that waits just now
            self.is_woken = False

    def drain(self) -> None:
        """Begin to wait anew. What other threads did before they woke us is visible by now."""
        with suppress(BlockingIOError):
            self._reading.recv(64)
        # Not before: a byte that is written in between would be read as well, and no other would
        # follow. A thread that finds the flag still set has done its part before the next turn.
        self.is_woken = False

    def close(self) -> None:
        """Close the socket; a wake-up is lost from now on."""
        self._reading.close()
        self._writing.close()
