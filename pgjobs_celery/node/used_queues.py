"""The queues that this process uses, which others must see."""

from __future__ import annotations

from collections.abc import Collection


class UsedQueues:
    """The queues that this process uses. Thread-safe: each user's queues are replaced at once."""

    def __init__(self) -> None:
        self._consumed: dict[int, Collection[str]] = {}
        self._owned: dict[int, Collection[str]] = {}

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


def _replace(used: dict[int, Collection[str]], user: object, queues: Collection[str]) -> None:
    used[id(user)] = queues
    if not queues:
        del used[id(user)]
