"""Connections that are not in use: kept for a while, and closed when they stay unused."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..scopes.steady import monotonic

if TYPE_CHECKING:
    from .connection import Connection

#: How long one is kept while the server has no place left for others, in seconds.
SHORT = 0.5
#: For how long it is taken to have none, after it has reported so, in seconds.
SCARCE = 60.0


class Idle:
    """The idle connections of a pool. Thread-safe.

    The one that was used last is used next, so that those which are not needed any more grow old.
    A thread closes them, and is there only while there are any.
    """

    def __init__(self, keep: float) -> None:
        #: For how many seconds one is kept; 0 for as long as the process lasts.
        self._keep = keep
        #: Those that have waited longest stand first, each with since when it waits.
        self._waiting: list[tuple[float, Connection]] = []
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._scarce_until = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Connection]:
        return iter([connection for _, connection in self._waiting])

    def put(self, connection: Connection) -> None:
        """Nobody uses it any more."""
        with self._changed:
            self._waiting.append((monotonic(), connection))
            if self._thread is None and self._limit is not None:
                self._start()

    def take(self) -> Connection | None:
        """One of them, to be used; None if there is none."""
        with self._changed:
            return self._waiting.pop()[1] if self._waiting else None

    def hurry(self) -> None:
        """Others wait for a place on the server: keep none for longer than need be."""
        with self._changed:
            self._scarce_until = monotonic() + SCARCE
            if self._waiting and self._thread is None:
                self._start()
            self._changed.notify()

    @property
    def _limit(self) -> float | None:
        is_scarce = self._scarce_until and monotonic() < self._scarce_until
        return SHORT if is_scarce else self._keep or None

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="pgjobs-idle", daemon=True)
        with contextlib.suppress(RuntimeError):  # the interpreter is about to end
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                limit = self._limit
                if not self._waiting or limit is None:
                    self._thread = None
                    return
                left = self._waiting[0][0] + limit - monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                _, old = self._waiting.pop(0)
            old.close()
