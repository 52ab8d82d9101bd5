"""Look for jobs and messages that were claimed in this process's name without its learning of it.

A claim whose answer was cut off may have been committed. So may one that was given up before the
server came to it, and that it comes to late.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from uuid import UUID

from ..db.database import Database
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))

#: After how many seconds jobs that were claimed unheard are looked for once more: the server may
#: come late to a claim that was cut off. Each pause is 4 times the last; after this it ends.
LOOK_BACK, LOOK_BACK_LAST = 1.0, 300.0


class LookBack:
    """When a node looks back, and at which queues. Used under the node's lock."""

    def __init__(self, database: Database, node: UUID) -> None:
        self._database = database
        self._node = node
        #: The queues from which was claimed.
        self.queues: set[str] = set()
        #: A claim was cut off: there may be jobs in our name of which we do not know.
        self.is_uncertain = False
        self._at, self._pause = math.inf, LOOK_BACK

    @property
    def is_due(self) -> bool:
        """True if the next claim must look first."""
        return self.is_uncertain or time.monotonic() >= self._at

    @property
    def goes_on(self) -> bool:
        """True while a claim that was cut off may still come late."""
        return self._at != math.inf

    def put_back(self, jobs: Iterable[int], messages: Iterable[int]) -> None:
        """Put back what is claimed in our name, except these rows, which we know."""
        count = self._database.claims.release_unknown_jobs(self._node, sorted(self.queues), jobs)
        self._database.messages.release_unknown_messages(self._node, list(messages))
        self._pause = LOOK_BACK if self.is_uncertain else self._pause * 4
        is_enough = self._pause > LOOK_BACK_LAST
        self._at = math.inf if is_enough else time.monotonic() + self._pause
        self.is_uncertain = False
        if count:
            logger.warning("put back %d jobs whose claim was cut off by a lost connection", count)
