"""The channels that claim jobs, as far as the node knows them."""

from __future__ import annotations

from typing import Protocol

from ..maintenance.watch import Looker


class Watcher(Looker, Protocol):
    """A channel that claims jobs."""

    def place_freed(self, queue: str) -> None:
        """A job of the queue has ended; called from any thread."""

    def verify_queues(self) -> None:
        """Queues of ours may have been taken away; called from any thread."""

    def waiting(self) -> list[tuple[int, int]]:
        """The jobs that wait here, and their attempts; called from any thread."""
