"""A feed of a channel: rows of one table, on their way to the channel's consumers."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple, Protocol

from .message import Message

#: Times of the monotonic clock: something can be done at once, and nothing is to be done.
NOW, NEVER = float("-inf"), float("inf")


class Consumer(NamedTuple):
    """A consumer of a queue's messages."""

    queue: str
    callback: Callable[[Message], Any]
    no_ack: bool


class Feed(Protocol):
    """Takes rows ahead of the consumers, and hands them out as there is room."""

    @property
    def is_idle(self) -> bool:
        """True when the last look found all that there was, or another is not worth it now."""

    @property
    def due_at(self) -> float:
        """When a turn would find something to hand out, or a look is worth its price.

        By the monotonic clock.
        """

    def deliver(self, until: float) -> int:
        """Hand out what there is room for until this time, at least one; how many."""

    def release(self, but: Container[str] = ()) -> None:
        """Put back what was taken and not handed out, but for these queues."""

    def close(self) -> None:
        """Hand out nothing more; what a statement brings that is under way goes back."""

    def abandon(self) -> None:
        """Forget everything: the process has forked, and the claims are the parent's."""
