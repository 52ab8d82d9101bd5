"""Tell how often looks at lanes left jobs waiting, for the metrics of all workers together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .history import OTHER
from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class Throttle(Service):
    """Add the looks of this process to the totals. Asks nothing while there were none."""

    name = "throttle"
    interval = 5.0

    def __init__(self, seen: Mapping[tuple[str, str], int]) -> None:
        #: By queue and reason, since the process began; only ever grows.
        self._seen = seen
        self._told: Counter[tuple[str, str]] = Counter()
        #: How many queues are counted apart.
        self.limit = 0

    def run(self, database: Database) -> dict[str, int]:
        """Add what has come since."""
        new = Counter(dict(self._seen))
        new.subtract(self._told)
        if new := +new:
            database.metrics.add_throttled(new, self.limit, OTHER)
            self._told.update(new)
        return {}
