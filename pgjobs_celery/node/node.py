"""This process as a holder of claims: what it holds, and what is still to be written about it.

Claims belong to the process and not to a channel: when a connection is lost the tasks go on, and
their outcomes go out over the next one. An outcome that could not be written is kept and tried
again; the fence makes writing it twice harmless.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4
from weakref import WeakSet

from ..config import Settings
from ..db.database import CONNECTION_ERRORS, REFUSALS, Database
from ..db.rows.claims import Pending, Turn
from ..db.rows.messages import Delivery
from ..errors import PgJobsError
from ..job.outcome import FinishedJob, Outcome
from ..job.rows import Bucket, Cancellation, Claim
from ..maintenance.heartbeat import Heartbeat
from ..maintenance.services import Services
from ..maintenance.watch import Watch
from ..printable import guarded
from .about import describe_process
from .holdings import Holdings
from .lanes import KnownLanes
from .ledger import Ledger
from .limits import KnownLimits
from .look_back import LookBack
from .mailboxes import Mailboxes
from .outcomes import finished_jobs, report_lost, settle_each
from .parking import Parking
from .used_queues import UsedQueues
from .watcher import Watcher

if TYPE_CHECKING:
    from ..maintenance.loop import Service
    from .pool import Pool

logger = guarded(logging.getLogger(__name__))

T = TypeVar("T")


class Node:
    """The claims of this process in one database. Thread-safe; get one with :func:`get_node`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.id: UUID = uuid4()
        self.hex = self.id.hex  # each message has it
        self.name = f"{os.getpid()}@{socket.gethostname()}"
        self.settings = Settings()
        #: The tasks that are acknowledged when they end; None where all are: a plain consumer.
        self.late_tasks: list[str] | None = None
        #: Where the tasks run; None without a pool.
        self.pool: Pool | None = None
        #: Looks at what it holds, at each poll; None without a pool.
        self.oversee: Callable[[], None] | None = None
        #: Is told of the groups whose tasks come; None where nothing asks.
        self.note_group: Callable[[str], None] | None = None
        #: For how many seconds of work it may claim beyond what its pool can begin.
        self.read_ahead = database.options.read_ahead
        #: How many jobs of a queue it may claim.
        self.limits = KnownLimits()
        #: The pauses of tasks, tags and keys.
        self.parking = Parking()
        #: The queues that have lanes, and what the last look found in them.
        self.lanes = KnownLanes()
        #: Over which exchange this worker tells of what happens; None where it is not a worker.
        self.event_exchange: str | None = None
        #: Called with jobs that have come to their end, once that is written; from any thread.
        self.on_finished: Callable[[Sequence[FinishedJob]], None] | None = None
        #: How many outcomes were not written because others had the jobs by then.
        self.lost_claims = 0
        self.ledger = Ledger()
        self.services = Services(database, self.ledger, self.flush, self.lanes.throttled)
        self.holdings = Holdings()
        self.mailboxes = Mailboxes()
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._held_messages: set[int] = set()
        self.uses = UsedQueues()
        self._look_back = LookBack(database, self.id)
        #: It was a worker's, which has stopped.
        self.has_left = False
        self._lock = threading.Lock()

    @property
    def unwritten(self) -> int:
        """How many outcomes and acknowledgements are still to be written."""
        return self.ledger.unwritten

    def claim_jobs(
        self, buckets: Sequence[Bucket], limit: int, *, for_pool: bool = True
    ) -> list[Claim]:
        """Write what is due and take up to ``limit`` jobs, in one transaction.

        Raises a connection error with nothing lost: outcomes stay, and jobs claimed by a
        statement whose answer never came are put back by the next call. ``for_pool``: what runs
        them is the worker's pool; any other consumer acknowledges finished messages.
        """
        finished: list[FinishedJob] = []
        late = self.late_tasks if for_pool else None
        with self._lock:
            self._look_back.queues.update(bucket.queue for bucket in buckets)
            if buckets:
                self._start()
            if self._look_back.is_due:
                self._put_back_unknown()
            # Before the outcomes, which come before their marks: one that is taken here is written.
            self.ledger.write(self.ledger.begun, self._begin_jobs)
            pending = self.ledger.take()
            try:
                turn = self._turn(pending, buckets, limit, late)
            except BaseException:
                self.ledger.put_back(pending)
                self._look_back.is_uncertain = True
                raise
            self.ledger.end_write()
            for claim in turn.claims:
                self.holdings.take(claim)
            self.lost_claims += report_lost(self.database, turn.lost)
            if self.on_finished is not None:
                finished = list(finished_jobs(pending.outcomes, turn.settled))
        if pending.parts:
            self.services.complete_chords()
        # Not under the lock: a receiver may publish.
        self.announce(finished)
        return turn.claims

    def claim_messages(self, queues: Sequence[str], limit: int) -> list[Delivery]:
        """Take up to ``limit`` messages, to be settled or released."""
        with self._lock:
            self._start()
            if self._look_back.is_due:
                self._put_back_unknown()
            try:
                deliveries = self.database.messages.claim_messages(self.id, queues, limit)
            except BaseException:
                self._look_back.is_uncertain = True
                raise
            self._held_messages.update(delivery.id for delivery in deliveries)
            return deliveries

    @property
    def held(self) -> int:
        """How many jobs this process has claimed whose outcome is not known yet."""
        return len(self.holdings)

    def held_claims(self) -> set[tuple[int, int]]:
        """Those that are in the pool, and their attempts; not those kept elsewhere."""
        return self.holdings.claims_in_pool()

    def watchers(self) -> list[Watcher]:
        """The channels that claim jobs here."""
        return list(self._watchers)

    def find_cancelled(self) -> list[Cancellation]:
        """Those of the jobs that run here, or are about to, that must be cancelled."""
        held = list(self.holdings)
        return self.database.held.find_cancelled(self.id, held) if held else []

    def end_cancelled(self, drop: Callable[[Cancellation], bool] = lambda _: False) -> None:
        """Keep cancelled jobs from beginning, and end those that must be terminated.

        ``drop`` is asked first: True for a job that waited in a channel, and does no more.
        """
        if self.pool is not None:
            for cancellation in self.find_cancelled():
                if not drop(cancellation):
                    self.pool.end(cancellation)

    @property
    def is_fenced(self) -> bool:
        """True when others may be about to take our jobs: no other may be begun."""
        heartbeat = self.services.heartbeat
        return heartbeat is not None and heartbeat.is_overdue

    def describe(self) -> dict[str, Any]:
        """How it stands, for people."""
        return {
            "node": str(self.id), "held": self.held, "unwritten": self.unwritten,
            "lost_claims": self.lost_claims, "fenced": self.is_fenced,
        }  # fmt: skip

    def flush(self) -> None:
        """Write what is due; raises a connection error with nothing lost."""
        self.ledger.write(self.ledger.left, self._leave_queues)
        if self.unwritten or self._look_back.is_uncertain:
            self.claim_jobs((), 0)

    def write_all(self) -> None:
        """As :meth:`flush`, and wait for what another thread is writing."""
        with self._lock:
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

    def leave(self, queues: Iterable[str]) -> None:
        """Note that a consumer of these has gone: they may go."""
        for queue in queues:
            self._note(self.ledger.left, queue)

    def done(self, id: int, attempt: int) -> None:
        """The outcome of that attempt is known; a retry may have become our next one already."""
        queue = self.holdings.end(id, attempt)
        if queue is not None and (queue in self.limits or queue in self.lanes.waiting):
            if queue in self.limits.shared:
                self._note(self.ledger.freed, queue)
            for watcher in list(self._watchers):
                watcher.place_freed(queue)

    def begin_for_good(self, claim: Claim) -> None:
        """Note that its task begins and is acknowledged: if we die, it must not run again.

        Of most tasks the claim says so.
        """
        self._note(self.ledger.begun, (claim.id, claim.attempt))

    def announce(self, finished: Sequence[FinishedJob]) -> None:
        """Report jobs that have come to their end, and whose rows say so."""
        if finished and self.on_finished is not None:
            self.on_finished(finished)

    def count_lost(self) -> None:
        """Count an outcome that was not written because others had the job by then."""
        self.lost_claims += 1

    def watch(self, watcher: Watcher) -> None:
        """Tell it when a job of a queue with a limit has ended; from any thread."""
        self._watchers.add(watcher)

    def places(self) -> dict[str, int]:
        """How many more jobs of each queue with a limit to claim at most, from 0."""
        self.limits.refresh(self._read_limits)
        return self.limits.places(self.holdings.queues())

    def _read_limits(self) -> Mapping[str, int]:
        look = self.database.limits.look_at_limits()
        self.parking.is_needed, self.limits.sorted = look.has_pauses, look.sorted
        return look.shared

    def configure(self, name: str, settings: Settings, event_exchange: str | None = None) -> None:
        """Be the node of a Celery worker of this name, which tells of itself over that exchange."""
        self.name, self.settings, self.event_exchange = name, settings, event_exchange
        self.limits.own = {
            queue: rules.workers
            for queue, rules in settings.queue_rules.items()
            if rules.workers is not None
        }

    def serve_worker(
        self,
        pool: Pool,
        late_tasks: list[str],
        on_finished: Callable[[Sequence[FinishedJob]], None],
        oversee: Callable[[], None],
        note_group: Callable[[str], None] | None = None,
        read_ahead: float | None = None,
    ) -> None:
        """Claim for this pool. ``read_ahead``: None for the one of the transport's options."""
        self.pool, self.on_finished = pool, on_finished
        self.oversee, self.note_group = oversee, note_group
        self.acknowledge_late(late_tasks)
        if read_ahead is not None:
            self.read_ahead = read_ahead

    def acknowledge_late(self, tasks: list[str]) -> None:
        """These tasks, and no others, are acknowledged when they end."""
        self.late_tasks = tasks

    @property
    def worker_name(self) -> str | None:
        """The nodename of the Celery worker that this is; None where it is none."""
        return None if self.event_exchange is None else self.name

    def start(self) -> None:
        """Begin to live: heartbeat and maintenance. A claim does it by itself."""
        with self._lock:
            self._start()

    def serve_results(self, complete: Service, settings: Settings) -> None:
        """Run what the results here need, whether jobs are claimed here or not."""
        with self._lock:
            self.settings = settings
            self.services.serve_results(complete, settings)

    def expect_chord(self) -> None:
        """A task of a chord has ended without a look at its body: take that when it is written."""
        self._note(self.ledger.parts, True)

    def close(self) -> None:
        """Write what is due and leave; never raises for a lost connection."""
        self.services.stop()
        try:
            self.services.post.run(self.database)
            self.flush()
            heartbeat = self.services.heartbeat
            if heartbeat is not None and not self.holdings:
                self.services.heartbeat = None
                self.has_left = True
                self.database.nodes.delete_node(self.id)
                if self._look_back.goes_on:
                    # Without the row nothing is claimed for us, and what was is committed.
                    self._put_back_unknown()
                heartbeat.close()
            self.services.throttle.run(self.database)  # asks nothing where no lane was shut lately
        except (*CONNECTION_ERRORS, PgJobsError) as error:
            logger.warning("could not say goodbye to the database: %s", error)
        self.database.close()

    def _begin_jobs(self, begun: Sequence[tuple[int, int]]) -> None:
        try:
            self.database.claims.begin_jobs(self.id, begun)
        except REFUSALS as error:  # no reason to claim nothing
            logger.error("attempts that have begun could not be marked: %s", error)

    def _leave_queues(self, left: Iterable[str]) -> None:
        unused = {queue for queue in left if queue not in self.uses}
        if unused:
            self.database.routes.leave_queues(unused, self.id)

    def _describe(self) -> tuple[str, list[str], int]:
        """The data of a heartbeat."""
        return self.name, self.uses.names, self.lost_claims

    def _note(self, notes: deque[T], what: T) -> None:
        if self.ledger.note(notes, what):
            self.services.expect_outcome()

    def _turn(
        self, pending: Pending, buckets: Sequence[Bucket], limit: int, late: Sequence[str] | None
    ) -> Turn:
        limited = {bucket.queue for bucket in buckets}.intersection(self.limits.shared)
        ended = self.lanes.ended(pending, buckets)

        def take(pending: Pending) -> Turn:
            with self.parking.together(self.database):
                turn = self.database.claims.turn(
                    self.id, pending, buckets, limit, late, name=self.name, limited=limited,
                    bound=self.settings.max_interruptions, ended=ended,
                )  # fmt: skip
                turn = self.parking.park(self.database, self.id, turn)
            self.limits.learn(turn.places, (claim.queue for claim in turn.claims))
            self.lanes.forget(pending)  # before what the turn has claimed: a retry may be among it
            self.lanes.learn(turn, buckets)
            return turn

        try:
            return take(pending)
        except REFUSALS:
            if not pending.outcomes:
                raise
            lost, settled = settle_each(self.database, self.id, pending.outcomes)
            return take(pending._replace(outcomes=()))._replace(lost=lost, settled=settled)

    def _come_back(self) -> None:
        for watcher in list(self._watchers):
            watcher.verify_queues()

    def _put_back_unknown(self) -> None:
        jobs = [*self.holdings, *self.ledger.jobs()]  # held before noted, see settle()
        self._look_back.put_back(jobs, [*self._held_messages, *self.ledger.messages()])

    def _start(self) -> None:
        """Before the first claim: others must be able to see that we live."""
        if self.services.heartbeat is not None:
            return
        settings = self.settings
        heartbeat = Heartbeat(
            self.id, self._describe, settings.heartbeat_interval, settings.lease,
            on_dead=self.services.rescue, on_back=self._come_back,
            about=lambda: describe_process(self.pool),
        )  # fmt: skip
        heartbeat.run(self.database)
        watch = Watch(self.watchers, self.database.options.poll, lambda: self.oversee)
        self.services.start(heartbeat, watch, settings)
        self.has_left = False
