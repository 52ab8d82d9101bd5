"""What was read a moment ago, for all visitors together: twenty open tabs ask the same."""

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

    def __init__(self, seconds: float) -> None:
        #: For how long an answer counts.
        self.seconds = seconds
        self._lock = threading.Lock()
        self._kept: dict[Hashable, _Kept] = {}

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """The answer; ``read()`` if there is none, or an old one. An error is not kept."""
        with self._lock:
            if len(self._kept) >= MOST and key not in self._kept:
                self._kept.clear()
            kept = self._kept.setdefault(key, _Kept())
        with kept.lock:
            if monotonic() >= kept.until:
                kept.answer = read()
                kept.until = monotonic() + self.seconds
            answer: T = kept.answer
            return answer


class _Kept:
    """An answer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answer: Any = None
        self.until = 0.0
