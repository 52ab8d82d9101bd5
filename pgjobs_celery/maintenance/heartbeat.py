"""Say that this process is alive, from another thread: a long task must not look like death."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Heartbeat(Service):
    """Renew the node row of this process."""

    name = "heartbeat"

    def __init__(
        self, node: UUID, describe: Callable[[], tuple[str, list[str]]], interval: float
    ) -> None:
        self.interval = interval
        self._node = node
        self._describe = describe

    def run(self, database: Database) -> dict[str, int]:
        """Write one row."""
        name, queues = self._describe()
        database.nodes.beat_node(self._node, name, queues)
        return {}
