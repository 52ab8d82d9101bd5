"""Write the outcomes of jobs when no claim does.

The next claim carries the outcomes along. Where no claim comes, because the solo pool's main thread
is inside a long task, the worker shuts down or a plain consumer works on a message, the rows would
read ``executing`` although the jobs have long ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Ledger(Protocol):
    """The keeper of outcomes that are not yet written."""

    @property
    def unwritten(self) -> int:
        """How many outcomes it keeps."""

    @property
    def since(self) -> float:
        """The arrival of the oldest, by the monotonic clock."""


class Settle(Service):
    """Flush outcomes that have waited for ``linger``."""

    name = "settle"
    #: Runs when there is something to write; this is only how often it makes sure.
    interval = 1.0
    #: How long an outcome waits for a claim to carry it along, in seconds.
    linger = 0.05

    def __init__(self, ledger: Ledger, flush: Callable[[], None]) -> None:
        self._ledger = ledger
        self._flush = flush

    def run(self, database: Database) -> dict[str, int]:
        """Write the outcomes that are overdue."""
        if self._ledger.unwritten and self._waited() >= self.linger:
            self._flush()
        return {}

    def next_delay(self) -> float:
        """Until the oldest outcome has waited long enough."""
        if not self._ledger.unwritten:
            return self.interval
        return max(0.0, self.linger - self._waited())

    def _waited(self) -> float:
        return time.monotonic() - self._ledger.since
