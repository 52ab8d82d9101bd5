"""The rows of ``nodes``: which processes claim jobs, and are they alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from .._version import __version__

if TYPE_CHECKING:
    from .database import Database


class Nodes:
    """What can be done to node rows; one method for each statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat_node(self, node: UUID, name: str, queues: Sequence[str]) -> None:
        """Say that ``node`` is alive and what it consumes."""
        self._database.fetch(
            "beat_node", node=node, name=name, queues=list(queues), version=__version__
        )

    def delete_node(self, node: UUID) -> None:
        """Say that ``node`` is gone; it must hold no jobs any more."""
        self._database.fetch("delete_node", node=node)
