"""All handles that wait for a result: Celery before 5.7 keeps the first one for each id."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import celery

#: With those releases a second handle would wait for ever, even if the first has given up: a group
#: that was restored beside the one that was published, or a page that looks again.
ARE_FORGOTTEN = celery.VERSION < (5, 7)


class Waiters:
    """The handles on each result, as Celery keeps them from 5.7 on."""

    def __init__(self) -> None:
        self._of: dict[str, dict[int, Callable[[], Any]]] = {}

    def add(self, result: Any, weak: bool = False) -> None:
        """Remember this one, or only for as long as somebody else does."""
        found = weakref.ref(result) if weak else lambda: result
        self._of.setdefault(result.id, {})[id(result)] = found

    def discard(self, result: Any) -> bool:
        """Forget this one; True if others wait for the same result."""
        waiting = self._of.get(result.id, {})
        waiting.pop(id(result), None)
        if self.of(result.id):
            return True
        self._of.pop(result.id, None)
        return False

    def of(self, task_id: str) -> list[Any]:
        """Those that wait for this result."""
        found = [each() for each in list(self._of.get(task_id, {}).values())]
        return [each for each in found if each is not None]

    def clear(self) -> None:
        """In a forked child: the waiters are the parent's."""
        self._of.clear()
