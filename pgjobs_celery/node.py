"""This process as a holder of claims: what it holds, and what is still to be written about it.

Claims belong to the process and not to a channel: when a connection is lost the tasks go on, and
their outcomes go out over the next one. What could not be written is kept and tried again; the
fence makes writing it twice harmless.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from uuid import UUID, uuid4

from .db.database import CONNECTION_ERRORS, Database
from .job import Bucket, Claim
from .maintenance.loop import Loop
from .maintenance.heartbeat import Heartbeat
from .outcome import Outcome

logger = logging.getLogger(__name__)


class Node:
    """The claims of this process in one database. Thread-safe; get one with :func:`get_node`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.id: UUID = uuid4()
        self.name = f"{os.getpid()}@{socket.gethostname()}"
        self.maintenance = Loop(database)
        #: Called when an outcome was added by a thread other than the one that flushes.
        self.on_outcome = lambda: None
        self._queues: set[str] = set()
        self._held: dict[int, int] = {}
        self._outcomes: deque[Outcome] = deque()
        self._is_uncertain = False
        self._is_beating = False
        self._lock = threading.Lock()

    @property
    def has_outcomes(self) -> bool:
        """True while something is still to be written."""
        return bool(self._outcomes)

    @property
    def outcome_count(self) -> int:
        """How many outcomes are still to be written."""
        return len(self._outcomes)

    def claim(self, buckets: Sequence[Bucket], limit: int) -> list[Claim]:
        """Write what is due and take up to ``limit`` jobs, in one transaction.

        Raises a connection error with nothing lost: outcomes stay, and jobs claimed by a
        statement whose answer never came are put back by the next call.
        """
        with self._lock:
            self._queues.update(bucket.queue for bucket in buckets)
            if buckets:
                self._start_beating()
            if self._is_uncertain:
                self._put_back_unknown()
            outcomes = self._take_outcomes()
            try:
                claims, lost = self.database.jobs.claim_jobs(
                    self.id, self.name, buckets, limit, outcomes
                )
            except BaseException:
                self._outcomes.extendleft(reversed(outcomes))
                self._is_uncertain = True
                raise
            for claim in claims:
                self._held[claim.id] = claim.attempt
            self._report_lost(lost)
            return claims

    def flush(self) -> None:
        """Write the outcomes that are due; raises a connection error with none lost."""
        if self._outcomes:
            self.claim((), 0)

    def settle(self, outcome: Outcome) -> None:
        """Note what became of a job; written with the next claim or flush."""
        self._held.pop(outcome.id, None)
        self._outcomes.append(outcome)
        self.on_outcome()

    def done(self, id: int) -> None:
        """The job's outcome was written by the process that ran it."""
        self._held.pop(id, None)
        self.on_outcome()

    def wake(self, queues: Iterable[str]) -> None:
        """Wake other workers: jobs of these queues were put back in line."""
        self.database.jobs.wake_queues(queues)

    def _take_outcomes(self) -> list[Outcome]:
        outcomes = []
        while self._outcomes:
            outcomes.append(self._outcomes.popleft())
        return outcomes

    def _put_back_unknown(self) -> None:
        known = [*self._held, *(outcome.id for outcome in self._outcomes)]
        count = self.database.jobs.release_unknown_jobs(self.id, sorted(self._queues), known)
        self._is_uncertain = False
        if count:
            logger.warning("put back %d jobs whose claim was cut off by a lost connection", count)

    def _report_lost(self, lost: Iterable[Outcome]) -> None:
        for outcome in lost:
            if outcome.is_sole:
                logger.warning(
                    "job %s: attempt %s was no longer ours; its outcome (%s) was not written",
                    outcome.id, outcome.attempt, outcome.state,
                )  # fmt: skip

    def _start_beating(self) -> None:
        if not self._is_beating:
            heartbeat = Heartbeat(self.id, lambda: (self.name, sorted(self._queues)))
            heartbeat.run(self.database)
            self.maintenance.add(heartbeat)
            self._is_beating = True

    def close(self) -> None:
        """Write what is due and leave; never raises for a lost connection."""
        self.maintenance.stop()
        try:
            self.flush()
            if self._is_beating and not self._held:
                self.database.nodes.delete_node(self.id)
        except CONNECTION_ERRORS as error:
            logger.warning("could not say goodbye to the database: %s", error)


_nodes: dict[Database, Node] = {}


def get_node(database: Database) -> Node:
    """This process's node in a database; the same one for all who ask."""
    return _nodes.setdefault(database, Node(database)) if database not in _nodes else _nodes[database]


def find_node(database: Database) -> Node | None:
    """This process's node in a database if it has claimed anything yet."""
    return _nodes.get(database)


os.register_at_fork(after_in_child=_nodes.clear)
