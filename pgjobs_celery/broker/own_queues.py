"""The exclusive queues of a connection, which go with it."""

from __future__ import annotations

from ..node.node import Node


class OwnQueues:
    """Known to the node, too: who is taken for dead finds its queues gone."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._names: set[str] = set()

    def add(self, queue: str) -> None:
        """Delete the queue with the connection."""
        self._names.add(queue)
        self._tell()

    def discard(self, queue: str) -> None:
        """The queue is gone."""
        if queue in self._names:
            self._names.remove(queue)
            self._tell()

    def leave(self) -> None:
        """The connection is lost: another worker deletes them."""
        self._node.uses.own(self, ())

    def delete(self) -> None:
        """The connection is closed: delete them."""
        names, self._names = self._names, set()
        self._tell()
        for name in names:
            self._node.database.routes.delete_queue(name)

    def _tell(self) -> None:
        self._node.uses.own(self, tuple(self._names))
