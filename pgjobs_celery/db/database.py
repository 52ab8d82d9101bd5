"""Everything one process has to do with one database: its connections and its rows."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from ..config import Options
from .connection import CONNECTION_ERRORS, REFUSALS, Connection
from .deadline import OutOfTime, answered_by, unhurried
from .django_aliases import before_maintenance
from .dsn import alias_of
from .liveness import ConnectionLost
from .rows.audit import Audit
from .rows.canvas import CanvasRows
from .rows.changes import Changes
from .rows.claims import Claims
from .rows.entries import Entries
from .rows.explain import Explain
from .rows.failures import FailureRows
from .rows.filtered import Matches
from .rows.flow import Flow
from .rows.flow_rules import FlowRules
from .rows.gates import Gates
from .rows.groups import Groups
from .rows.history import HistoryRows
from .rows.jobs import Jobs
from .rows.limits import QueueLimits
from .rows.listing import Listing
from .rows.messages import Messages
from .rows.metrics import Metrics
from .rows.nodes import Nodes
from .rows.overview import OverviewRows
from .rows.privileges import Privileges
from .rows.receipts import Receipts
from .rows.results import Results
from .rows.routes import Routes
from .rows.rules import Rules
from .rows.running import Held
from .rows.steps import Steps
from .rows.unique_jobs import UniqueJobs
from .rows.views import Views
from .rows.waiting import WaitingJobs
from .session import Session, hide_password

__all__ = [
    "CONNECTION_ERRORS", "REFUSALS", "ConnectionLost", "Database", "OutOfTime", "answered_by",
    "get_database", "unhurried",
]  # fmt: skip


class Database(Session):
    """A database as one process sees it. Thread-safe; connects when it is first used.

    Get one with :func:`get_database`: transport, backend and maintenance of a process share it.
    """

    @cached_property
    def jobs(self) -> Jobs:
        """The rows of ``jobs``."""
        return Jobs(self)

    @cached_property
    def claims(self) -> Claims:
        """The rows of ``jobs`` that workers claim."""
        return Claims(self)

    @cached_property
    def unique_jobs(self) -> UniqueJobs:
        """The rows of jobs that must be the only ones of their kind."""
        return UniqueJobs(self)

    @cached_property
    def receipts(self) -> Receipts:
        """The receipts of jobs that were published with an idempotency key."""
        return Receipts(self)

    @cached_property
    def held(self) -> Held:
        """The rows of the tasks that run in this process."""
        return Held(self)

    @cached_property
    def steps(self) -> Steps:
        """The memory of jobs: their steps, waits and signals."""
        return Steps(self)

    @cached_property
    def matches(self) -> Matches:
        """The rows of ``jobs`` that filters find."""
        return Matches(self)

    @cached_property
    def listing(self) -> Listing:
        """The rows of ``jobs`` as a list shows them."""
        return Listing(self)

    @cached_property
    def explain(self) -> Explain:
        """The facts by which a job's state is explained."""
        return Explain(self)

    @cached_property
    def canvas(self) -> CanvasRows:
        """The jobs that belong together."""
        return CanvasRows(self)

    @cached_property
    def results(self) -> Results:
        """The results in the rows of ``jobs``."""
        return Results(self)

    @cached_property
    def groups(self) -> Groups:
        """Saved groups, and chords."""
        return Groups(self)

    @cached_property
    def entries(self) -> Entries:
        """Keys and values."""
        return Entries(self)

    @cached_property
    def messages(self) -> Messages:
        """The rows of messages that are not jobs."""
        return Messages(self)

    @cached_property
    def routes(self) -> Routes:
        """Exchanges, queues and bindings."""
        return Routes(self)

    @cached_property
    def limits(self) -> QueueLimits:
        """The queues that are paused or limited."""
        return QueueLimits(self)

    @cached_property
    def flow_rules(self) -> FlowRules:
        """The rules of flow control, as publishers need them."""
        return FlowRules(self)

    @cached_property
    def rules(self) -> Rules:
        """The rules of flows, and the pauses of jobs."""
        return Rules(self)

    @cached_property
    def gates(self) -> Gates:
        """The gates of rates, for code outside of jobs."""
        return Gates(self)

    @cached_property
    def named_flows(self) -> dict[str, Any]:
        """The rules with a name that this process has registered, or has seen there."""
        return {}

    @cached_property
    def flow(self) -> Flow:
        """The rules of flow control, as the code registers them, and the lanes."""
        return Flow(self)

    @cached_property
    def audit(self) -> Audit:
        """The record of who did what."""
        return Audit(self)

    @cached_property
    def changes(self) -> Changes:
        """The values that show that something has changed."""
        return Changes(self)

    @cached_property
    def waiting(self) -> WaitingJobs:
        """The jobs that wait for their time."""
        return WaitingJobs(self)

    @cached_property
    def history(self) -> HistoryRows:
        """The rows of ``history``."""
        return HistoryRows(self)

    @cached_property
    def metrics(self) -> Metrics:
        """Totals of what has ended, and what a scrape reads beside them."""
        return Metrics(self)

    @cached_property
    def nodes(self) -> Nodes:
        """The processes that claim jobs."""
        return Nodes(self)

    @cached_property
    def failures(self) -> FailureRows:
        """The failures that jobs stand at."""
        return FailureRows(self)

    @cached_property
    def overview(self) -> OverviewRows:
        """The jobs as a whole."""
        return OverviewRows(self)

    @cached_property
    def views(self) -> Views:
        """A job as its page shows it."""
        return Views(self)

    @cached_property
    def privileges(self) -> Privileges:
        """The privileges of the role."""
        return Privileges(self)

    def _open(
        self,
        conninfo: str,
        meanwhile: Callable[[float], Connection | None] | None = None,
        **parameters: Any,
    ) -> Connection:
        connection = super()._open(conninfo, meanwhile, **parameters)
        if alias_of(conninfo):
            before_maintenance(_leave_aliases)
        _open_connections.add(connection)
        return connection


_databases: dict[tuple[str, Options, tuple[str, ...]], Database] = {}
_lock = threading.Lock()
_open_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def get_database(conninfo: str, options: Options, alternates: Sequence[str] = ()) -> Database:
    """This process's Database for a connection string; the same one for all who ask.

    ``alternates``, itself the first, are those of a list of URLs: they lead to one database, which
    moves between them, and which is not that of any of them alone.
    """
    others = tuple(alternates) if len(alternates) > 1 else ()
    with _lock:
        key = (conninfo, hide_password(options), others)
        if key not in _databases:
            _databases[key] = Database(conninfo, options, others)
        return _databases[key]


def known_databases() -> list[Database]:
    """Those that this process, or the one it was forked from, has used."""
    return list(_databases.values())


def find_database(key: str) -> Database | None:
    """The Database with this key, if this process or the one it was forked from has used it.

    Of several, for apps with other options, that whose transaction this thread is in: no other one
    sees what was written there.
    """
    found = [each for each in known_databases() if each.key == key]
    return next((each for each in found if each.is_in_transaction), found[0] if found else None)


def _leave_aliases() -> None:
    """Close what leads to Django's databases and does nothing just now."""
    for database in known_databases():
        if database.alias:
            database.close()
    for connection in list(_open_connections):
        if isinstance(connection.home, tuple) and connection.is_usable:
            connection.close()


def _forget_parent() -> None:
    """In a forked child: nothing of the parent's may be used, or closed with a goodbye.

    The sockets are closed here, below libpq: PQfinish would end the parent's session, and a
    socket left open would keep the server from seeing that the parent died.
    """
    global _lock
    _lock = threading.Lock()
    for database in _databases.values():
        database.forget_connections()
    for connection in list(_open_connections):
        connection.abandon()
    _open_connections.clear()


os.register_at_fork(after_in_child=_forget_parent)
