"""Delete leftovers: queues that no program can use any longer, expired messages, idle gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Reap(Service):
    """Delete reply queues without an owner, queues past their expiry, expired messages, and the
    gates of keys that are not used any more.
    """

    name = "reap"
    interval = 60.0
    #: How many messages one statement deletes.
    batch = 1000

    def run(self, database: Database) -> dict[str, int]:
        """Delete all of them."""
        queues = database.routes.reap_queues()
        messages = 0
        while count := database.messages.reap_messages(self.batch):
            messages += count
            if count < self.batch:
                break
        gates = 0
        while count := database.flow.prune_gates(self.batch):
            gates += count
            if count < self.batch:
                break
        return {"queues": queues, "messages": messages, "gates": gates}
