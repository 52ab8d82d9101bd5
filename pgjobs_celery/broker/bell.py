"""A worker's bell: it is rung for single jobs, of which few workers are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from secrets import randbelow

from ..db.notify import BELLS
from ..job.rows import Claim

#: Of a worker with more queues than this, none has a bell: it would double its advisory locks, of
#: which a server has 6,400 by default.
MOST_QUEUES = 50


class Bell:
    """A transport's bell, and the jobs for which it was rung and that nobody may have claimed."""

    def __init__(self) -> None:
        # Not random's, whose state forked workers share.
        self.number = randbelow(BELLS)
        #: For whose jobs it was hung, and may still be rung.
        self.queues: Container[str] = ()
        self._unmet: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """True while there may be a job that nobody but us was told of."""
        return bool(self._unmet)

    def ring(self, queue: str) -> None:
        """A job is ready in this queue; for other queues than ours anybody may ring, in vain."""
        if queue in self.queues:
            self._unmet[queue] += 1

    def meet(self, claims: Iterable[Claim], dry: Iterable[str]) -> None:
        """These jobs were claimed, and in these queues there is nothing more."""
        if not self._unmet:
            return
        self._unmet.subtract(claim.queue for claim in claims)
        for queue in dry:
            self._unmet.pop(queue, None)
        self._unmet = +self._unmet

    def pass_on(self, will_claim: Callable[[str], bool]) -> dict[str, int]:
        """The queues with jobs that we will not claim now, and how many: others must be told."""
        passed = {queue: count for queue, count in self._unmet.items() if not will_claim(queue)}
        for queue in passed:
            del self._unmet[queue]
        return passed
