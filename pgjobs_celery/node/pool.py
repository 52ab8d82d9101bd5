"""The worker's pool, as far as the node and the broker use it."""

from __future__ import annotations

from typing import Any, Protocol

from ..db.rows.nodes import About
from ..job.rows import Cancellation


class Pool(Protocol):
    """A worker's pool: how much it can take, and what it has begun."""

    @property
    def capacity(self) -> int:
        """How many jobs the pool can hold, those that wait for a rate limit included."""

    @property
    def has_processes(self) -> bool:
        """True where tasks run in child processes."""

    @property
    def holds_loop(self) -> bool:
        """True where a task runs in the worker's event loop, and holds it up (solo)."""

    def describe(self) -> About:
        """The worker: pool, slots, celery, and the tasks that it knows; may raise anything."""

    def is_fed_by(self, channel: Any) -> bool:
        """True if what the pool runs comes over this channel of kombu's."""

    def end(self, cancellation: Cancellation) -> None:
        """Keep a job from beginning, or end its task."""

    def end_begun(self) -> None:
        """End tasks that had begun before the pool was told to end, unheard."""

    def cancel(self, request: Any) -> None:
        """Note that the pool was told to end this request's task."""

    def take_back(self, request: Any, result: Any) -> bool:
        """Keep a task from a child; False if one has it. ``result`` is the one the pool gave."""
