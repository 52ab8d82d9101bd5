"""Under which name a worker has its mailbox, where another worker has the same nodename.

Celery names the queue by which a worker hears of remote control after the worker, and since 5.7 it
is exclusive. Two workers that were not told apart (``-n``) must both hear: on Redis a broadcast
reaches every listener. So the second one has a queue of its own, bound to the same exchange.
"""

from __future__ import annotations

from uuid import UUID


class Mailboxes:
    """The mailboxes of a process, by the names that Celery has for them."""

    def __init__(self) -> None:
        self._own: dict[str, str] = {}

    def name(self, queue: str) -> str:
        """The queue's name in the database."""
        return self._own.get(queue, queue)

    def rename(self, queue: str, node: UUID) -> str:
        """Have it for ourselves under another name, which is returned."""
        return self._own.setdefault(queue, f"{queue}.{node.hex}")


def is_mailbox(queue: str, worker: str | None) -> bool:
    """True for the queue by which this worker, if it is one, hears of remote control."""
    return bool(worker) and queue.startswith(f"{worker}.") and queue.endswith(".pidbox")
