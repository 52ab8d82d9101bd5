"""Report that this process is alive, from another thread: a long task must not look like death."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from .loop import Service

if TYPE_CHECKING:
    from ..db.connection import Connection
    from ..db.database import Database
    from ..db.rows.nodes import About


class Heartbeat(Service):
    """Renew the node row of this process, over a connection of its own."""

    name = "heartbeat"
    #: For how long heartbeats must have come without a gap before this node calls another one
    #: dead, in seconds: after an outage that hit all of them the others need time to come back.
    #: With a short lease it is no longer than that.
    grace = 5.0

    def __init__(
        self,
        node: UUID,
        describe: Callable[[], tuple[str, list[str], int]],
        interval: float,
        lease: float,
        on_dead: Callable[[], None],
        on_back: Callable[[], None] = lambda: None,
        about: Callable[[], About | None] = lambda: None,
    ) -> None:
        self.interval = interval
        self.grace = min(self.grace, lease)
        self._lease = lease
        self._node = node
        self._describe = describe
        self._on_dead = on_dead
        #: Called when this node lives, and others may have taken it for dead.
        self._on_back = on_back
        self._about = about
        #: What the row says that this process is.
        self._told: About | None = None
        self._connection: Connection | None = None
        self._last = float("-inf")

    @property
    def is_overdue(self) -> bool:
        """True when others may be about to take this node for dead."""
        return self.silence > self._lease * 0.9

    @property
    def silence(self) -> float:
        """Seconds since the last heartbeat that was written."""
        return time.monotonic() - self._last

    def run(self, database: Database) -> dict[str, int]:
        """Write one row."""
        if self._connection is None or not self._connection.is_usable:
            # A vanished server must be noticed while there is time for another try.
            self._connection = database.connect(
                ask_after=self._lease / 4, tcp_user_timeout=round(self._lease * 500)
            )
        name, queues, lost_claims = self._describe()
        # Before it is sent: the row's time, which others go by, is later.
        sent = time.monotonic()
        is_back = self.is_overdue and self._last > float("-inf")
        about = self._about()
        beat = database.nodes.beat_node(
            self._node, name, queues, self._lease, self.grace, lost_claims, self._connection,
            None if about == self._told else about,
        )  # fmt: skip
        self._told = None if beat.is_unknown else about
        self._last = sent
        if is_back:
            self._on_back()
        if beat.others_are_dead:
            self._on_dead()
        return {}

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
