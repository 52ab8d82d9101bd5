"""The rows of ``nodes``: which processes claim jobs, and are they alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from ..._version import __version__

if TYPE_CHECKING:
    from ..connection import Connection
    from ..session import Session


class Nodes:
    """Statements on node rows, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def beat_node(
        self,
        node: UUID,
        name: str,
        queues: Sequence[str],
        lease: float,
        grace: float = 0.0,
        lost_claims: int = 0,
        connection: Connection | None = None,
    ) -> bool:
        """Say that ``node`` is alive and what it consumes; True if others must be rescued.

        ``lease`` is how long it may be silent before it counts as dead. Only a node whose
        heartbeats have had no gap for ``grace`` seconds is told of dead ones. ``lost_claims``:
        how many outcomes it could not write because others had the jobs by then.
        """
        call = self._session.call(
            "beat_node",
            node=node,
            name=name,
            queues=list(queues),
            version=__version__,
            lease=lease,
            grace=grace,
            lost_claims=lost_claims,
        )
        rows = connection.run([call]) if connection else self._session.run([call])
        return bool(rows[0][0][0])

    def delete_node(self, node: UUID) -> None:
        """Say that ``node`` is gone; it must hold no jobs any more."""
        self._session.fetch("delete_node", node=node)
