"""Keep what was read a moment ago, for all visitors together: twenty open tabs ask the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from ..scopes.steady import monotonic

T = TypeVar("T")

#: How many answers are kept.
MOST = 256


class Memory:
    """Answers, each for some seconds. Thread-safe; of two that ask at once the second waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, _Kept] = {}

    def get(self, key: Hashable, read: Callable[[], T], seconds: float) -> T:
        """The answer; ``read()`` if there is none, or one that is older than so many seconds.

        An error is not kept.
        """
        with self._lock:
            if len(self._kept) >= MOST and key not in self._kept:
                self._kept.clear()
            kept = self._kept.setdefault(key, _Kept())
        with kept.lock:
            if monotonic() >= kept.at + seconds:
                kept.answer = read()
                kept.at = monotonic()
            answer: T = kept.answer
            return answer

    def clear(self) -> None:
        """Know nothing: somebody has acted, and wants to see it."""
        with self._lock:
            self._kept.clear()


class _Kept:
    """An answer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answer: Any = None
        self.at = float("-inf")
