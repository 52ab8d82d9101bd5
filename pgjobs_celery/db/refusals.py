"""When to ask once more for a lock that says that we wait, and that another session holds.

As a rule that session has news of what we wait for, until its commit: some milliseconds.
But advisory locks are everybody's who may connect, and a worker that waits for one does nothing
else. So they are asked for and never waited for: meanwhile we look for ourselves.
"""

from __future__ import annotations

import logging

from ..printable import guarded
from ..scopes.steady import monotonic

logger = guarded(logging.getLogger(__name__))

#: Seconds until the first new attempt. Each takes twice as long as the one before.
FIRST = 0.002
#: Seconds between two attempts at most: the pace at which is looked for news, too.
LONGEST = 0.5

#: The first half of the advisory keys ("pgj" and a number); the second is a hash of the name.
SLEEPERS = 0x70676A01


class Refusals:
    """How often in a row a lock was refused, and when it is asked for again."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._is_told = False
        #: When to ask again, by the monotonic clock; infinite where all is well.
        self.due_at = float("inf")

    def note(self, count: int) -> None:
        """Of the locks that were asked for, this many were refused."""
        if not count:
            if self._is_told:
                logger.info("the advisory locks are free again: woken by NOTIFY from now on")
            self._pause, self._is_told, self.due_at = 0.0, False, float("inf")
            return
        self._pause = min(self._pause * 2 or FIRST, LONGEST)
        self.due_at = monotonic() + self._pause
        if self._pause == LONGEST and not self._is_told:
            self._is_told = True
            logger.warning(
                "another session holds %d of the advisory locks with which we say that we wait, "
                "and keeps them: looking for news every %s seconds until it lets go. SELECT pid "
                "FROM pg_locks WHERE locktype = 'advisory' AND classid = %d AND "
                "mode = 'ExclusiveLock' says which; REVOKE CONNECT ON DATABASE from who has no "
                "business in it",
                count,
                LONGEST,
                SLEEPERS,
            )
