"""A claim, and the outcomes that it carries along, from its sending to its answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from uuid import UUID

from ..db.database import REFUSALS, Database
from ..db.flight import Flight
from ..db.rows.claims import Pending, SentTurn, Turn
from ..job.outcome import FinishedJob
from ..job.rows import Bucket, Claim
from .outcomes import settle_each


class SentClaim:
    """One transaction that writes notes and claims jobs; used under the node's lock."""

    #: Why it has brought nothing.
    error: BaseException | None = None
    #: The node has learned from its answer.
    is_over = False
    #: Nobody waits for them any more: they go back in line.
    is_unwanted = False

    def __init__(
        self,
        database: Database,
        node: UUID,
        name: str,
        pending: Pending,
        buckets: Sequence[Bucket],
        limit: int,
        late: Sequence[str] | None,
        shared: Collection[str],
    ) -> None:
        self._database, self._node, self._name = database, node, name
        #: The notes that it writes.
        self.pending = pending
        self._buckets, self._limit, self._late = buckets, limit, late
        self._limited = {bucket.queue for bucket in buckets}.intersection(shared)
        #: The jobs that it has brought, until somebody takes them.
        self.claims: deque[Claim] = deque()
        #: What became of outcomes that were written before, one by one.
        self._written: Turn | None = None
        #: The jobs that have ended with it, where somebody is told of them.
        self.finished: list[FinishedJob] = []
        self._sent = self._send(pending)

    @property
    def flight(self) -> Flight:
        """Its statements, and their answer."""
        return self._sent.flight

    def finish(self) -> Turn:
        """Its effect; waits for the answer."""
        try:
            turn = self._sent.finish()
        except REFUSALS:
            if self._written is not None or not self.pending.outcomes:
                raise
            turn = self._send_apart().finish()
        if self._written is None:
            return turn
        return turn._replace(lost=self._written.lost, settled=self._written.settled)

    def _send(self, pending: Pending) -> SentTurn:
        try:
            return self._database.claims.send_turn(
                self._node, pending, self._buckets, self._limit, self._late,
                name=self._name, limited=self._limited,
            )  # fmt: skip
        except REFUSALS:
            if not pending.outcomes:
                raise
            return self._send_apart()

    def _send_apart(self) -> SentTurn:
        """The server, or the driver, refuses an outcome: the others must not wait for it."""
        lost, settled = settle_each(self._database, self._node, self.pending.outcomes)
        self._written = Turn([], lost, settled, {})
        self._sent = self._send(self.pending._replace(outcomes=()))
        return self._sent
