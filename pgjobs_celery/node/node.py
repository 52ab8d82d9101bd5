"""This process as a holder of claims: what it holds, and what is still to be written about it.

Claims belong to the process and not to a channel: when a connection is lost the tasks go on, and
their outcomes go out over the next one. An outcome that could not be written is kept and tried
again; the fence makes writing it twice harmless.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..config import Settings
from ..db.database import CONNECTION_ERRORS, Database
from ..errors import PgJobsError
from ..job.outcome import FinishedJob
from ..job.rows import Cancellation, Claim
from ..maintenance.heartbeat import Heartbeat
from ..maintenance.watch import Watch
from ..printable import guarded
from .about import describe_process
from .claimer import Claimer
from .mailboxes import Mailboxes
from .used_queues import UsedQueues
from .watcher import Watcher

if TYPE_CHECKING:
    from ..maintenance.loop import Service
    from .pool import Pool

logger = guarded(logging.getLogger(__name__))


class Node(Claimer):
    """The claims of this process in one database. Thread-safe; get one with :func:`get_node`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, f"{os.getpid()}@{socket.gethostname()}")
        self.settings = Settings()
        #: Where the tasks run; None without a pool.
        self.pool: Pool | None = None
        #: Looks at what it holds, at each poll; None without a pool.
        self.oversee: Callable[[], None] | None = None
        #: Is told of the groups whose tasks come; None where nothing asks.
        self.note_group: Callable[[str], None] | None = None
        #: For how many seconds of work it may claim beyond what its pool can begin.
        self.read_ahead = database.options.read_ahead
        #: Over which exchange this worker tells of what happens; None where it is not a worker.
        self.event_exchange: str | None = None
        self.mailboxes = Mailboxes()
        self.uses = UsedQueues()
        #: It was a worker's, which has stopped.
        self.has_left = False

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
            "node": str(self.id), "held": self.held, "unwritten": self.unwritten,
            "lost_claims": self.lost_claims, "fenced": self.is_fenced,
        }  # fmt: skip

    def flush(self) -> None:
        """Write what is due; raises a connection error with nothing lost."""
        self.ledger.write(self.ledger.left, self._leave_queues)
        super().flush()

    def leave(self, queues: Iterable[str]) -> None:
        """Note that a consumer of these has gone: they may go."""
        for queue in queues:
            self._note(self.ledger.left, queue)

    def begin_for_good(self, claim: Claim) -> None:
        """Note that its task begins and is acknowledged: if we die, it must not run again.

        Of most tasks the claim says so.
        """
        self._note(self.ledger.begun, (claim.id, claim.attempt))

    def count_lost(self) -> None:
        """Count an outcome that was not written because others had the job by then."""
        self.lost_claims += 1

    def watch(self, watcher: Watcher) -> None:
        """Tell it when a job of a queue with a limit has ended; from any thread."""
        self._watchers.add(watcher)

    def places(self) -> dict[str, int]:
        """How many more jobs of each queue with a limit to claim at most, from 0."""
        self.limits.refresh(self.database.limits.list_limits)
        return self.limits.places(self.holdings.queues())

    def configure(self, name: str, settings: Settings, event_exchange: str | None = None) -> None:
        """Be the node of a Celery worker of this name, which tells of itself over that exchange."""
        self.name, self.settings, self.event_exchange = name, settings, event_exchange
        self.limits.own = settings.queues or {}

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
            self._live()

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
            self.write_all()
            heartbeat = self.services.heartbeat
            if heartbeat is not None and not self.holdings:
                self.services.heartbeat = None
                self.has_left = True
                self.database.nodes.delete_node(self.id)
                if self._look_back.goes_on:
                    # Without the row nothing is claimed for us, and what was is committed.
                    self._put_back_unknown()
                heartbeat.close()
        except (*CONNECTION_ERRORS, PgJobsError) as error:
            logger.warning("could not say goodbye to the database: %s", error)
        self.database.close()

    def _leave_queues(self, left: Iterable[str]) -> None:
        unused = {queue for queue in left if queue not in self.uses}
        if unused:
            self.database.routes.leave_queues(unused, self.id)

    def _describe(self) -> tuple[str, list[str], int]:
        """The data of a heartbeat."""
        return self.name, self.uses.names, self.lost_claims

    def _come_back(self) -> None:
        for watcher in list(self._watchers):
            watcher.verify_queues()

    def _live(self) -> None:
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
