"""Claim jobs and messages in the name of a process, and write what it has noted, in turns.

One turn is one transaction. Its answer is waited for, or comes while the process does other things.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID, uuid4
from weakref import WeakSet

from ..db.database import REFUSALS, Database, unhurried
from ..db.rows.claims import Pending
from ..db.rows.messages import Delivery
from ..job.outcome import FinishedJob, Outcome, released
from ..job.rows import Bucket, Claim
from ..maintenance.services import Services
from ..printable import guarded
from .holdings import Holdings
from .ledger import Ledger, take_all
from .limits import KnownLimits
from .look_back import LookBack
from .outcomes import finished_jobs, report_lost
from .sent_claim import SentClaim
from .watcher import Watcher

logger = guarded(logging.getLogger(__name__))

T = TypeVar("T")


class Claimer:
    """The turns of a process. Thread-safe."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.id: UUID = uuid4()
        self.name = name
        #: The tasks that are acknowledged when they end; None where all are: a plain consumer.
        self.late_tasks: list[str] | None = None
        #: How many jobs of a queue it may claim.
        self.limits = KnownLimits()
        #: Called with jobs that have come to their end, once that is written; from any thread.
        self.on_finished: Callable[[Sequence[FinishedJob]], None] | None = None
        #: How many outcomes were not written because others had the jobs by then.
        self.lost_claims = 0
        self.ledger = Ledger()
        self.services = Services(database, self.ledger, self.flush)
        self.holdings = Holdings()
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._held_messages: set[int] = set()
        self._look_back = LookBack(database, self.id)
        #: The turn that is under way.
        self._sent: SentClaim | None = None
        self._lock = threading.Lock()

    @property
    def unwritten(self) -> int:
        """How many outcomes and acknowledgements are still to be written."""
        return self.ledger.unwritten

    @property
    def is_claiming(self) -> bool:
        """True while a turn is under way."""
        return self._sent is not None

    def _live(self) -> None:
        """Before the first claim: others must be able to see that we live."""

    def claim_jobs(
        self, buckets: Sequence[Bucket], limit: int, *, for_pool: bool = True
    ) -> list[Claim]:
        """As :meth:`send_claim` and :meth:`finish_claim`, one after the other."""
        return self.finish_claim(self.send_claim(buckets, limit, for_pool=for_pool))

    def send_claim(
        self, buckets: Sequence[Bucket], limit: int, *, for_pool: bool = True
    ) -> SentClaim:
        """Write what is due and take up to ``limit`` jobs, in one transaction.

        Raises a connection error with nothing lost: outcomes stay, and jobs claimed by a
        statement whose answer never came are put back by the next call. ``for_pool``: what runs
        them is the worker's pool; any other consumer acknowledges finished messages.

        One is under way at a time: whoever sends another waits for the answer, in any thread.
        """
        late = self.late_tasks if for_pool else None
        with self._alone():
            self._look_back.queues.update(bucket.queue for bucket in buckets)
            if buckets:
                self._live()
            if self._look_back.is_due:
                self._put_back_unknown()
            # Before the outcomes, which come before their marks: one that is taken here is written.
            self.ledger.write(self.ledger.begun, self._begin_jobs)
            pending = self.ledger.take()
            try:
                self._sent = SentClaim(
                    self.database, self.id, self.name, pending, buckets, limit, late,
                    self.limits.shared,
                )  # fmt: skip
            except BaseException:
                self._fail(pending)
                raise
            self.ledger.note_sent()
            # Where a long task of the solo pool keeps the loop from the answer, the service that
            # writes outcomes reads it: the server commits when it has sent all of it.
            self.services.expect_outcome()
            return self._sent

    def finish_claim(self, sent: SentClaim) -> list[Claim]:
        """The jobs of a claim that was sent; waits for its answer."""
        if not sent.is_over:
            with self._alone(with_=sent):
                pass
        if sent.error is not None:
            raise sent.error
        return take_all(sent.claims)

    def give_back(self, sent: SentClaim) -> None:
        """Nobody waits for this claim any more: what it brings goes back in line.

        Takes no lock, for a signal handler may call this.
        """
        sent.is_unwanted = True
        self._release(sent)  # which may be there

    def _release(self, sent: SentClaim) -> None:
        for claim in take_all(sent.claims):
            self.settle(released(claim))

    @contextmanager
    def _alone(self, with_: SentClaim | None = None) -> Iterator[None]:
        """Nothing is under way in the block, and nothing else begins.

        ``with_``: wait for this only, if it is under way.
        """
        landed = None
        try:
            with self._lock:
                if self._sent is not None and with_ in (None, self._sent):
                    landed = self._sent
                    self._land(landed)
                yield
        finally:
            if landed is not None:
                # Not under the lock: a receiver may publish.
                self.announce(landed.finished)

    def _land(self, sent: SentClaim) -> None:
        """Wait for the answer, and learn from it."""
        try:
            self._learn(sent)
        finally:
            sent.is_over, self._sent = True, None

    def _learn(self, sent: SentClaim) -> None:
        pending = sent.pending
        try:
            with unhurried():  # whoever has a limit, this is not done for them
                turn = sent.finish()
        except BaseException as error:
            sent.error = error
            self._fail(pending)
            if not isinstance(error, Exception):
                raise
            return
        self.ledger.end_write()
        self.limits.learn(turn.places, (claim.queue for claim in turn.claims))
        for claim in turn.claims:
            self.holdings.take(claim)
        sent.claims.extend(turn.claims)
        if sent.is_unwanted:
            self._release(sent)
        self.lost_claims += report_lost(self.database, turn.lost)
        if self.on_finished is not None:
            sent.finished = list(finished_jobs(pending.outcomes, turn.settled))
        if pending.parts:
            self.services.complete_chords()

    def _fail(self, pending: Pending) -> None:
        self.ledger.put_back(pending)
        self._look_back.is_uncertain = True

    def claim_messages(self, queues: Sequence[str], limit: int) -> list[Delivery]:
        """Take up to ``limit`` messages, to be settled or released."""
        with self._alone():
            self._live()
            if self._look_back.is_due:
                self._put_back_unknown()
            try:
                deliveries = self.database.messages.claim_messages(self.id, queues, limit)
            except BaseException:
                self._look_back.is_uncertain = True
                raise
            self._held_messages.update(delivery.id for delivery in deliveries)
            return deliveries

    def flush(self) -> None:
        """Write what is due; raises a connection error with nothing lost."""
        if self.is_claiming:
            with self._alone():
                pass
        if self.unwritten or self._look_back.is_uncertain:
            self.claim_jobs((), 0)

    def write_all(self) -> None:
        """As :meth:`flush`, and wait for what another thread is writing."""
        with self._alone():
            pass
        self.flush()

    def settle(self, outcome: Outcome) -> None:
        """Note what became of a job: written with the next claim, or soon by itself."""
        # In this order: what is neither held nor noted would be put back as unknown.
        self._note(self.ledger.outcomes, outcome)
        self.done(outcome.id, outcome.attempt)

    def settle_message(self, id: int) -> None:
        """Note that a message was acknowledged."""
        self._note(self.ledger.read, id)
        self._held_messages.discard(id)

    def return_message(self, id: int) -> None:
        """Put a message back into its queue, redelivered."""
        self._note(self.ledger.returned, id)
        self._held_messages.discard(id)

    def done(self, id: int, attempt: int) -> None:
        """The outcome of that attempt is known; a retry may have become our next one already."""
        queue = self.holdings.end(id, attempt)
        if queue is not None and queue in self.limits:
            if queue in self.limits.shared:
                self._note(self.ledger.freed, queue)
            for watcher in list(self._watchers):
                watcher.place_freed(queue)

    def announce(self, finished: Sequence[FinishedJob]) -> None:
        """Report jobs that have come to their end, and whose rows say so."""
        if finished and self.on_finished is not None:
            self.on_finished(finished)

    def _note(self, notes: deque[T], what: T) -> None:
        self.ledger.note(notes, what)
        self.services.expect_outcome()

    def _begin_jobs(self, begun: Sequence[tuple[int, int]]) -> None:
        try:
            self.database.claims.begin_jobs(self.id, begun)
        except REFUSALS as error:  # no reason to claim nothing
            logger.error("attempts that have begun could not be marked: %s", error)

    def _put_back_unknown(self) -> None:
        # Held before noted, see settle().
        jobs = [*self.holdings, *self.ledger.jobs()]
        self._look_back.put_back(jobs, [*self._held_messages, *self.ledger.messages()])
