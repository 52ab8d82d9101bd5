"""Log once for this process that the database is away, and once that it is back."""

from __future__ import annotations

import logging
import threading

from ..printable import guarded
from ..scopes.steady import monotonic

logger = guarded(logging.getLogger(__name__))


class Outage:
    """The view that the services of a process have of one database's outage. Thread-safe.

    Each of them tries again by itself. The first one that fails says it for all of them, and the
    first of those that have failed says that it works again.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._since = 0.0

    def lost(self, name: str, error: BaseException) -> None:
        """``name`` has no connection."""
        with self._lock:
            is_first = not self._failing
            self._failing.add(name)
            if not is_first:
                return
            self._since = monotonic()
        logger.warning(
            "no connection to the database (%s at first), trying again until it is back: %s",
            name, error,
        )  # fmt: skip

    def is_noticed_by(self, name: str) -> bool:
        """True if ``name`` has had no connection since it was lost."""
        return name in self._failing

    def works(self, name: str) -> None:
        """``name`` has asked the database, and had an answer."""
        with self._lock:
            if name not in self._failing:
                return
            self._failing.clear()
            seconds = monotonic() - self._since
        logger.warning("connected to %s again, after %.0f s", self._where, seconds)
