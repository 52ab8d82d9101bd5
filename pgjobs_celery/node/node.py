"""This process as a holder of claims: what it holds, and what is still to be written about it.

Claims belong to the process and not to a channel: when a connection is lost the tasks go on, and
their outcomes go out over the next one. An outcome that could not be written is kept and tried
again; the fence makes writing it twice harmless.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID, uuid4
from weakref import WeakSet

from ..config import Settings
from ..db.database import CONNECTION_ERRORS, REFUSALS, Database
from ..db.rows.claims import Turn
from ..db.rows.messages import Delivery
from ..errors import PgJobsError
from ..job.outcome import FinishedJob, Outcome, discarded, error_from
from ..job.rows import Bucket, Cancellation, Claim
from ..job.states import State
from ..maintenance.heartbeat import Heartbeat
from ..maintenance.services import Services
from ..maintenance.watch import Looker, Watch
from ..printable import guarded
from .holdings import Holdings
from .limits import Limits
from .mailboxes import Mailboxes
from .used_queues import Uses

if TYPE_CHECKING:
    from ..maintenance.loop import Service
    from .pool import Pool

logger = guarded(logging.getLogger(__name__))

T = TypeVar("T")


#: After how many seconds jobs that were claimed unheard are looked for once more: the server may
#: come late to a claim that was cut off. Each pause is 4 times the last; after this it ends.
LOOK_BACK, LOOK_BACK_LAST = 1.0, 300.0


class Watcher(Looker, Protocol):
    """A channel that claims jobs."""

    def place_freed(self, queue: str) -> None:
        """A job of the queue has ended; called from any thread."""

    def verify_queues(self) -> None:
        """Queues of ours may have been taken away; called from any thread."""

    def waiting(self) -> list[tuple[int, int]]:
        """The jobs that wait here, and their attempts; called from any thread."""


class Node:
    """The claims of this process in one database. Thread-safe; get one with :func:`get_node`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.id: UUID = uuid4()
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
        self.limits = Limits()
        #: Over which exchange this worker tells of what happens; None where it is not a worker.
        self.event_exchange: str | None = None
        #: Called with jobs that have come to their end, once that is written; from any thread.
        self.on_finished: Callable[[Sequence[FinishedJob]], None] | None = None
        #: How many outcomes were not written because others had the jobs by then.
        self.lost_claims = 0
        self.services = Services(database, self)
        self._queues: set[str] = set()
        self.holdings = Holdings()
        self.mailboxes = Mailboxes()
        self._outcomes: deque[Outcome] = deque()
        self._read: deque[int] = deque()
        self._returned: deque[int] = deque()
        #: Attempts that must not be repeated if we die, and of which the row does not say so.
        self._begun: deque[tuple[int, int]] = deque()
        #: Queues in which a job of ours has ended, where others may wait for its place.
        self._freed: deque[str] = deque()
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._held_messages: set[int] = set()
        self.uses = Uses()
        self._oldest = 0.0
        #: A claim was cut off: there may be jobs in our name of which we do not know.
        self._is_uncertain = False
        self._look_back_at, self._look_back_pause = math.inf, LOOK_BACK
        #: A mark for each task of a chord that has ended, and was not followed up.
        self._parts: deque[bool] = deque()
        #: It was a worker's, which has stopped.
        self.has_left = False
        self._lock = threading.Lock()

    @property
    def unwritten(self) -> int:
        """How many outcomes and acknowledgements are still to be written."""
        acknowledged = len(self._outcomes) + len(self._read) + len(self._returned)
        acknowledged += len(self._begun)
        return acknowledged + len(self._freed) + len(self.uses.left) + len(self._parts)

    @property
    def unwritten_since(self) -> float:
        """When the oldest of them came, by the monotonic clock."""
        return self._oldest

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
            self._queues.update(bucket.queue for bucket in buckets)
            if buckets:
                self._start()
            if self._is_uncertain or time.monotonic() >= self._look_back_at:
                self._put_back_unknown()
            # Before the outcomes, which come before their marks: one that is taken here is written.
            self._write_begun()
            parts = _take_all(self._parts)
            outcomes = _take_all(self._outcomes)
            read, returned = _take_all(self._read), _take_all(self._returned)
            freed = _take_all(self._freed)
            limited = {bucket.queue for bucket in buckets}.intersection(self.limits.shared)
            limited.update(freed)
            try:
                turn = self._claim(buckets, limit, outcomes, read, returned, late, limited)
            except BaseException:
                self._parts.extendleft(parts)
                self._freed.extendleft(reversed(freed))
                self._outcomes.extendleft(reversed(outcomes))
                self._read.extendleft(reversed(read))
                self._returned.extendleft(reversed(returned))
                self._is_uncertain = True
                raise
            for claim in turn.claims:
                self.holdings.take(claim)
            self._report_lost(turn.lost)
            if self.on_finished is not None:
                finished = [
                    each for outcome in outcomes for each in _finished(outcome, turn.settled)
                ]
        if parts:
            self.services.complete_chords()
        # Not under the lock: a receiver may publish.
        self.announce(finished)
        return turn.claims

    def claim_messages(self, queues: Sequence[str], limit: int) -> list[Delivery]:
        """Take up to ``limit`` messages, to be settled or released."""
        with self._lock:
            self._start()
            if self._is_uncertain or time.monotonic() >= self._look_back_at:
                self._put_back_unknown()
            try:
                deliveries = self.database.messages.claim_messages(self.id, queues, limit)
            except BaseException:
                self._is_uncertain = True
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

    @property
    def is_fenced(self) -> bool:
        """True when others may be about to take our jobs: no other may be begun."""
        heartbeat = self.services.heartbeat
        return heartbeat is not None and heartbeat.is_overdue

    def describe(self) -> dict[str, Any]:
        """How it stands, for people."""
        return {
            "node": str(self.id),
            "held": self.held,
            "unwritten": self.unwritten,
            "lost_claims": self.lost_claims,
            "fenced": self.is_fenced,
        }

    def flush(self) -> None:
        """Write what is due; raises a connection error with nothing lost."""
        self._leave_queues()
        if self.unwritten or self._is_uncertain:
            self.claim_jobs((), 0)

    def settle(self, outcome: Outcome) -> None:
        """Note what became of a job: written with the next claim, or soon by itself."""
        # In this order: what is neither held nor noted would be put back as unknown.
        self._note(self._outcomes, outcome)
        self.done(outcome.id, outcome.attempt)

    def settle_message(self, id: int) -> None:
        """Note that a message was acknowledged."""
        self._note(self._read, id)
        self._held_messages.discard(id)

    def return_message(self, id: int) -> None:
        """Put a message back into its queue, redelivered."""
        self._note(self._returned, id)
        self._held_messages.discard(id)

    def leave(self, queues: Iterable[str]) -> None:
        """Note that a consumer of these has gone: they may go."""
        for queue in queues:
            self._note(self.uses.left, queue)

    def done(self, id: int, attempt: int) -> None:
        """The outcome of that attempt is known; a retry may have become our next one already."""
        queue = self.holdings.end(id, attempt)
        if queue is not None and queue in self.limits:
            if queue in self.limits.shared:
                self._note(self._freed, queue)
            for watcher in list(self._watchers):
                watcher.place_freed(queue)

    def begin_for_good(self, claim: Claim) -> None:
        """Note that its task begins and is acknowledged: if we die, it must not run again.

        Of most tasks the claim says so.
        """
        self._note(self._begun, (claim.id, claim.attempt))

    def announce(self, finished: Sequence[FinishedJob]) -> None:
        """Report jobs that have come to their end, and whose rows say so."""
        if finished and self.on_finished is not None:
            self.on_finished(finished)

    def watch(self, watcher: Watcher) -> None:
        """Tell it when a job of a queue with a limit has ended; from any thread."""
        self._watchers.add(watcher)

    def places(self) -> dict[str, int]:
        """How many more jobs of each queue with a limit to claim at most, from 0."""
        if self.limits.is_stale:
            self.limits.is_stale = False
            try:
                self.limits.share(self.database.limits.list_limits())
            except BaseException:
                self.limits.is_stale = True
                raise
        return self.limits.places(self.holdings.queues())

    def configure(self, name: str, settings: Settings, event_exchange: str | None = None) -> None:
        """Be the node of a Celery worker of this name, which tells of itself over that exchange."""
        self.name, self.settings, self.event_exchange = name, settings, event_exchange
        self.limits.own = settings.queues or {}

    @property
    def worker_name(self) -> str | None:
        """The nodename of the Celery worker that this is; None where it is none."""
        return None if self.event_exchange is None else self.name

    def start(self) -> None:
        """Begin to live: heartbeat and maintenance. A claim does it by itself."""
        with self._lock:
            self._start()

    def serve_results(self, complete: Service) -> None:
        """Run what the results here need, whether jobs are claimed here or not."""
        with self._lock:
            self.services.serve_results(complete, self.settings)

    def expect_chord(self) -> None:
        """A task of a chord has ended without a look at its body: take that when it is written."""
        self._note(self._parts, True)

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
                if self._look_back_at != math.inf:
                    # Without the row nothing is claimed for us, and what was is committed.
                    self._put_back_unknown()
                heartbeat.close()
        except (*CONNECTION_ERRORS, PgJobsError) as error:
            logger.warning("could not say goodbye to the database: %s", error)
        self.database.close()

    def _write_begun(self) -> None:
        begun = _take_all(self._begun)
        try:
            if begun:
                self.database.claims.begin_jobs(self.id, begun)
        except REFUSALS as error:  # no reason to claim nothing
            logger.error("attempts that have begun could not be marked: %s", error)
        except BaseException:
            self._begun.extendleft(reversed(begun))
            raise

    def _leave_queues(self) -> None:
        left = self.uses.take_left()
        try:
            if left:
                self.database.routes.leave_queues(left, self.id)
        except BaseException:
            self.uses.left.extend(left)
            raise

    def _describe(self) -> tuple[str, list[str], int]:
        """The data of a heartbeat."""
        return self.name, self.uses.names, self.lost_claims

    def _note(self, pending: deque[T], what: T) -> None:
        if not self.unwritten:
            self._oldest = time.monotonic()
        pending.append(what)
        self.services.expect_outcome()

    def _claim(
        self,
        buckets: Sequence[Bucket],
        limit: int,
        outcomes: Sequence[Outcome],
        read: Sequence[int],
        returned: Sequence[int],
        late: Sequence[str] | None,
        limited: Collection[str],
    ) -> Turn:
        def claim(outcomes: Sequence[Outcome]) -> Turn:
            turn = self.database.claims.claim_limited_jobs(
                self.id, self.name, buckets, limit, outcomes, read, returned, late, limited
            )
            self.limits.learn(turn.places, (claim.queue for claim in turn.claims))
            return turn

        try:
            return claim(outcomes)
        except REFUSALS:
            if not outcomes:
                raise
            # One of them it is: the others must not wait for it.
            lost = [each for outcome in outcomes for each in self._settle_alone(outcome)]
            settled = {each.id: each.state for each in outcomes if each not in lost}
            return claim(())._replace(lost=lost, settled=settled)

    def _settle_alone(self, outcome: Outcome) -> list[Outcome]:
        try:
            return self.database.claims.settle_jobs(self.id, [outcome])
        except REFUSALS as error:
            logger.error(
                "job %s: its outcome (%s) was refused: %s", outcome.id, outcome.state, error
            )
            why = error_from(error)
        try:
            instead = discarded(outcome, why)
            return self.database.claims.settle_jobs(self.id, [instead])
        except REFUSALS as error:
            logger.error("job %s cannot be set aside either: %s", outcome.id, error)
            return []

    def _come_back(self) -> None:
        for watcher in list(self._watchers):
            watcher.verify_queues()

    def _put_back_unknown(self) -> None:
        # Copies, for other threads go on noting; held before noted, see settle().
        known = [*self.holdings, *(outcome.id for outcome in list(self._outcomes))]
        count = self.database.claims.release_unknown_jobs(self.id, sorted(self._queues), known)
        known = [*self._held_messages, *self._read, *self._returned]
        self.database.messages.release_unknown_messages(self.id, known)
        self._look_back_pause = LOOK_BACK if self._is_uncertain else self._look_back_pause * 4
        is_enough = self._look_back_pause > LOOK_BACK_LAST
        self._look_back_at = math.inf if is_enough else time.monotonic() + self._look_back_pause
        self._is_uncertain = False
        if count:
            logger.warning("put back %d jobs whose claim was cut off by a lost connection", count)

    def _report_lost(self, lost: Iterable[Outcome]) -> None:
        for outcome in lost:
            if self._requeue_success(outcome):
                continue
            if outcome.is_sole:
                self.lost_claims += 1
                logger.warning(
                    "job %s: attempt %s was no longer ours; its outcome (%s) was not written",
                    outcome.id, outcome.attempt, outcome.state,
                )  # fmt: skip

    def _requeue_success(self, outcome: Outcome) -> bool:
        """True for a job that its task has put back after it had stored its own SUCCESS."""
        if outcome.state is not State.AVAILABLE or not outcome.counts:
            return False
        try:
            return self.database.claims.requeue_success(outcome.id, outcome.attempt)
        except CONNECTION_ERRORS as error:  # the claims that came with it must not be lost
            logger.warning("job %s was not put back: %s", outcome.id, error)
            return False

    def _start(self) -> None:
        """Before the first claim: others must be able to see that we live."""
        if self.services.heartbeat is not None:
            return
        settings = self.settings
        heartbeat = Heartbeat(
            self.id,
            self._describe,
            settings.heartbeat_interval,
            settings.lease,
            on_dead=self.services.rescue,
            on_back=self._come_back,
        )
        heartbeat.run(self.database)
        watch = Watch(self.watchers, self.database.options.poll, lambda: self.oversee)
        self.services.start(heartbeat, watch, settings)
        self.has_left = False


def _finished(outcome: Outcome, settled: Mapping[int, State]) -> Iterator[FinishedJob]:
    """The job of this outcome, if it has come to its end."""
    state = settled.get(outcome.id)
    if state is None and not outcome.is_sole and outcome.state is not State.COMPLETED:
        # The process that ran the task has written it. Not of one that retried or replaced itself:
        # its row is in line again.
        state = outcome.state
    if outcome.job is not None and state is not None and state.is_final:
        yield FinishedJob(*outcome.job, outcome.attempt, state, outcome.error)


def _take_all(pending: deque[T]) -> list[T]:
    taken = []
    while pending:
        taken.append(pending.popleft())
    return taken


_nodes: dict[Database, Node] = {}
_lock = threading.Lock()


def get_node(database: Database) -> Node:
    """This process's node in a database; the same one for all who ask."""
    with _lock:
        if database not in _nodes:
            _nodes[database] = Node(database)
        return _nodes[database]


def close_nodes() -> None:
    """Before the process ends: write what is due everywhere."""
    for node in list(_nodes.values()):
        node.close()


def _forget_parent() -> None:
    """In a forked child: the claims are the parent's."""
    global _lock
    _lock = threading.Lock()
    _nodes.clear()


os.register_at_fork(after_in_child=_forget_parent)
atexit.register(close_nodes)
