"""Write what became of jobs when nobody else does.

The next claim carries the outcomes along. Where no claim comes, because the solo pool's main thread
is inside a long task, the worker shuts down or a plain consumer works on a message, the rows would
say ``executing`` of what has long ended.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Ledger(Protocol):
    """Who keeps the outcomes."""

    @property
    def unwritten(self) -> int:
        """How many."""

    @property
    def unwritten_since(self) -> float:
        """When the oldest came, by the monotonic clock."""

    def flush(self) -> None:
        """Write them."""


class Settle(Service):
    """Flush outcomes that have waited for ``patience``."""

    name = "settle"
    #: Runs when there is something to write; this is only how often it makes sure.
    interval = 1.0
    #: How long an outcome waits for a claim to carry it along, in seconds.
    patience = 0.05

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def run(self, database: Database) -> dict[str, int]:
        """Write what is overdue."""
        if self._ledger.unwritten and self._waited() >= self.patience:
            self._ledger.flush()
        return {}

    def next_delay(self) -> float:
        """Until the oldest outcome has waited long enough."""
        if not self._ledger.unwritten:
            return self.interval
        return max(0.0, self.patience - self._waited())

    def _waited(self) -> float:
        return time.monotonic() - self._ledger.unwritten_since
