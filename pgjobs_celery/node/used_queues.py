"""The queues that this process uses: others must see them, and may have what it has left."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection


class Uses:
    """The queues that this process uses. Thread-safe: each user's queues are replaced at once."""

    def __init__(self) -> None:
        self._consumed: dict[int, Collection[str]] = {}
        self._owned: dict[int, Collection[str]] = {}
        #: Queues that have lost a consumer here.
        self.left: deque[str] = deque()

    def __contains__(self, queue: str) -> bool:
        """True while this process consumes from it."""
        return any(queue in queues for queues in list(self._consumed.values()))

    def consume(self, channel: object, queues: Collection[str]) -> None:
        """The channel consumes from these now, and from no others."""
        _replace(self._consumed, channel, queues)

    def own(self, connection: object, queues: Collection[str]) -> None:
        """These are the connection's own."""
        _replace(self._owned, connection, queues)

    @property
    def names(self) -> list[str]:
        """All that is in use."""
        used = set().union(*list(self._consumed.values()), *list(self._owned.values()))
        return sorted(used)

    def take_left(self) -> set[str]:
        """The queues that have lost a consumer, and have none now."""
        left = set()
        while self.left:
            left.add(self.left.popleft())
        return {queue for queue in left if queue not in self}


def _replace(used: dict[int, Collection[str]], user: object, queues: Collection[str]) -> None:
    used[id(user)] = queues
    if not queues:
        del used[id(user)]
