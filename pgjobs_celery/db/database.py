"""Everything one process has to do with one database: its connections and its rows.

The pool connects in the thread that asks, so that an error names its cause and comes at once,
and it is made anew after a fork. psycopg-pool does neither: it connects in background threads
(a refused login is a PoolTimeout 30 s later, with three more threads in each pool child).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from typing import Any, TypeVar

import psycopg

from ..config import Options
from ..errors import ConnectionFailed
from . import notify
from .callers.django import is_in_task
from .connection import CONNECTION_ERRORS, REFUSALS, Call, Connection, Row, call, prepared
from .deadline import OutOfTime, answered_by, time_left, unhurried
from .django_aliases import before_maintenance, home_of, resolve
from .dsn import Target, alias_of, describe
from .failures import read_only
from .idle import Idle
from .joining import Joining
from .liveness import ConnectionLost
from .migrations.versions import check_schema
from .notify import Listener
from .outage import Outage
from .places import wait_for_place
from .resends import Unanswered
from .rights import Rights
from .rows.claims import Claims
from .rows.entries import Entries
from .rows.filtered import Matches
from .rows.groups import Groups
from .rows.jobs import Jobs
from .rows.limits import Limits
from .rows.messages import Messages
from .rows.nodes import Nodes
from .rows.results import Results
from .rows.routes import Routes
from .rows.running import Held
from .rows.unique_jobs import UniqueJobs
from .rows.waiting import WaitingJobs

__all__ = [
    "CONNECTION_ERRORS", "REFUSALS", "ConnectionLost", "Database", "OutOfTime", "answered_by",
    "get_database", "unhurried",
]  # fmt: skip

T = TypeVar("T")

#: How long a task waits for a place on a server that is full, in seconds: what it publishes next,
#: and what it has come to, nobody can make again.
TASK_PATIENCE = 60.0

#: After how many seconds without an answer a server is asked that has only to say who listens.
LISTENING = 2.0


class Database(Joining):
    """A database as one process sees it. Thread-safe; connects when it is first used.

    Get one with :func:`get_database`: transport, backend and maintenance of a process share it.
    """

    def __init__(self, conninfo: str, options: Options, alternates: Sequence[str] = ()) -> None:
        self.conninfo = conninfo
        self.options = _hide_password(options)
        self.schema = options.schema
        #: The same for every process that spells the URL and the schema alike; tells nothing of it.
        named = ";".join(alternates) or conninfo
        self.key = sha256(f"{named} {options.schema}".encode()).hexdigest()[:16]
        self._idle = Idle(options.idle_timeout)
        self._free = threading.BoundedSemaphore(options.pool_size)
        self._out: set[Connection] = set()
        self._returned = threading.Condition()
        #: What is so in this thread: how patient it is, and the connection of its transaction.
        self._local = threading.local()
        #: What the role must be allowed to do; None: everything, as a worker.
        self.rights: Rights | None = None
        #: Where the tables were seen to be there.
        self._checked: Hashable = None
        #: NULL in an array is none of its texts there.
        self._knows_nulls = True
        #: The alias that Django's settings have for it; None for a database of our own URL.
        self.alias = alias_of(conninfo)
        self.init_joining()
        #: What is said of times without a connection.
        self.outage = Outage(describe(conninfo))
        #: The jobs that were sent from here and may be there or not.
        self.unanswered = Unanswered()

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
    def held(self) -> Held:
        """The rows of the tasks that run in this process."""
        return Held(self)

    @cached_property
    def matches(self) -> Matches:
        """The rows of ``jobs`` that filters find."""
        return Matches(self)

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
        """What is not a job."""
        return Messages(self)

    @cached_property
    def routes(self) -> Routes:
        """Exchanges, queues and bindings."""
        return Routes(self)

    @cached_property
    def limits(self) -> Limits:
        """The queues that are paused or limited."""
        return Limits(self)

    @cached_property
    def waiting(self) -> WaitingJobs:
        """The jobs that wait for their time."""
        return WaitingJobs(self)

    @cached_property
    def nodes(self) -> Nodes:
        """The processes that claim jobs."""
        return Nodes(self)

    def call(self, name: str, /, **values: Any) -> Call:
        """The statement ``queries/<name>.sql`` with its values, ready to run."""
        if self.is_joined:
            return Call(prepared(name, self.schema), [], [], values)  # the caller's driver encodes
        return call(name, self.schema, values)

    def wake(self, kind: str, name: str = "") -> Call:
        """The statement that tells workers of something, if one waits for the name.

        In a caller's transaction it is told in any case, with the commit: who begins to wait
        meanwhile does not see what is not committed.
        """
        return self.call(
            "wake_sleepers",
            channel=notify.work_channel(self.schema),
            kind=kind,
            name=name,
            space=notify.SLEEPERS,
            is_joined=self.is_joined,
        )

    def run(self, *transactions: Sequence[Call]) -> list[list[Row]]:
        """Run each transaction, all in one flush; the rows of each call, in order.

        In the caller's transaction they are all part of that.
        """
        if self._caller is not None:
            return self._caller.run(*transactions)
        with self.connection() as connection:
            if self.is_beside:
                return self.run_briefly(connection, transactions)
            return connection.run(*transactions)

    def fetch(self, name: str, /, **values: Any) -> list[Row]:
        """Run one statement in a transaction of its own; its rows."""
        return self.run([self.call(name, **values)])[0]

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for the duration of the block, from the pool or new.

        Raises a psycopg OperationalError if there is no server, and SchemaMissing or
        SchemaOutOfDate if there are no tables for this release.
        """
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            yield connection
            return
        with self._place():
            connection = (
                self._take() or self._wait() or self.connect(meanwhile=self._wait_for_returned)
            )
            self._out.add(connection)
            try:
                yield connection
            except psycopg.errors.ReadOnlySqlTransaction:
                connection.close()
                raise
            finally:
                self._out.discard(connection)
                if connection.is_usable:
                    self._idle.put(connection)
                else:
                    connection.close()
                    # What cut it has most likely cut the idle ones too; each would be an error.
                    self.close()
                with self._returned:
                    self._returned.notify()

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place in the pool."""
        if not self._free.acquire(timeout=time_left()):
            raise OutOfTime("no connection of the pool was free in the time that there was")
        try:
            yield
        finally:
            self._free.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that this thread does here in the block is one transaction; in another, a savepoint.

        What raises rolls it back. Who waits is woken by the commit.
        """
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            with self.forgetting(), connection.psycopg.transaction():
                yield
            return
        with (
            self.connection() as connection,
            self.forgetting(),
            connection.psycopg.transaction(),
        ):
            self._local.connection = connection
            try:
                yield
            finally:
                self._local.connection = None

    def connect(
        self,
        *,
        meanwhile: Callable[[float], Connection | None] | None = None,
        **parameters: Any,
    ) -> Connection:
        """A new connection that belongs to the caller; checks the schema on the first one.

        ``parameters`` are libpq's, and add to those of the URL. Where the server is full it waits
        for a place, and takes what ``meanwhile`` may return instead.
        """
        connection = self._open(self.conninfo, meanwhile, **parameters)
        if self._checked != connection.home:
            try:
                self._knows_nulls = check_schema(
                    connection.psycopg, self.schema, rights=self.rights
                )
            except BaseException:
                connection.close()
                raise
            self._checked = connection.home
        if not self._knows_nulls:
            # Or 'NULL' is a text. A role has it so, or its database, and so has every session.
            connection.psycopg.execute("SET array_nulls = on")
        return connection

    def listen_for_work(self) -> Listener:
        """A connection of its own that hears of jobs and messages."""
        return self._listen(notify.work_channel(self.schema))

    def listen_for_results(self) -> Listener:
        """A connection of its own that hears of results."""
        return self._listen(notify.result_channel(self.schema))

    def _listen(self, channel: str) -> Listener:
        url = self.options.listen_url
        conninfo = url.conninfo if isinstance(url, Target) else self.conninfo
        # A loop that has other things to do waits for its answers.
        return Listener(
            self._open(conninfo, ask_after=min(self.options.ask_after, LISTENING)), channel
        )

    def be_patient(self, seconds: float = 0.05) -> None:
        """Have this thread wait for that long for a connection before it opens another one.

        For the threads of a worker that take turns: three connections are enough for all of them.
        """
        self._local.patience = seconds

    def _wait(self) -> Connection | None:
        seconds = getattr(self._local, "patience", 0.0)
        if not seconds or not self._out:
            return None
        return self._wait_for_returned(seconds)

    def _wait_for_returned(self, seconds: float) -> Connection | None:
        with self._returned:
            self._returned.wait_for(lambda: bool(self._idle), seconds)
        return self._take()

    def verify(self) -> None:
        """See that the server answers, and connect if need be; raises as :meth:`connection` does.

        Of the pooled connections none is left afterwards that a restart of the server has cut, or
        that leads to one that takes no writes any more.
        """
        ((takes_writes,),) = self.retrying(lambda: self.fetch("ping"))
        if not takes_writes:
            self.close()
            raise read_only(self.conninfo)

    def move_to(self, conninfo: str) -> bool:
        """From now on connect to another server, that stands in; False if it is the same."""
        is_another = conninfo != self.conninfo
        if is_another:
            self.conninfo = conninfo
            self.close()
        return is_another

    @property
    def driver_version(self) -> str:
        """psycopg's."""
        return psycopg.__version__

    def cut(self, thread: int) -> None:
        """Have what this thread waits for end as if the connection were lost; from another one."""
        for connection in list(self._out):
            if connection.patience.waiter == thread:
                connection.patience.cut()

    def close(self) -> None:
        """Close the pooled connections; the next use opens new ones."""
        while connection := self._take():
            connection.close()

    def forget_connections(self) -> None:
        """Drop the pooled connections unclosed: they belong to the process we were forked from."""
        self._idle = Idle(self.options.idle_timeout)
        self._out = set()
        self._returned = threading.Condition()
        self._free = threading.BoundedSemaphore(self.options.pool_size)
        self.outage = Outage(describe(self.conninfo))

    def retrying(self, work: Callable[[], T]) -> T:
        """``work()``, once more if its connection turns out to have been cut while it was idle.

        For statements that may run twice: a server restart is not the caller's business, unless
        it took the rest of a transaction along. Raises a ConnectionFailed only where nothing was
        sent.
        """
        if self.is_in_transaction:
            return work()
        try:
            return work()
        except (ConnectionFailed, OutOfTime):
            raise  # a new connection, and there is no server; or no time
        except CONNECTION_ERRORS as error:
            self.close()
            try:
                return work()
            except ConnectionFailed as again:
                raise error from again

    def _take(self) -> Connection | None:
        while connection := self._idle.take():
            if connection.is_usable and connection.home == home_of(self.conninfo):
                return connection
            connection.close()
        return None

    def _open(
        self,
        conninfo: str,
        meanwhile: Callable[[float], Connection | None] | None = None,
        **parameters: Any,
    ) -> Connection:
        home = home_of(conninfo)

        def open_one() -> Connection:
            return Connection(
                resolve(conninfo),
                connect_timeout=self.options.connect_timeout,
                prepare=self.options.prepare,
                **{"ask_after": self.options.ask_after, **parameters},
            )

        def wait(seconds: float) -> Connection | None:
            self._idle.hurry()
            if meanwhile is not None:
                return meanwhile(seconds)
            time.sleep(seconds)
            return None

        timeout = self.options.connect_timeout
        if is_in_task():
            timeout = max(timeout, TASK_PATIENCE)
        connection = wait_for_place(open_one, conninfo, timeout, wait)
        connection.home = home
        if alias_of(conninfo):
            before_maintenance(_leave_aliases)
        _open_connections.add(connection)
        return connection


def _hide_password(options: Options) -> Options:
    """The options as they may be shown, and as they are the same for all who ask."""
    url = options.listen_url
    if not url or isinstance(url, Target):
        return options
    return replace(options, listen_url=Target(url))


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
        key = (conninfo, _hide_password(options), others)
        if key not in _databases:
            _databases[key] = Database(conninfo, options, others)
        return _databases[key]


def known_databases() -> list[Database]:
    """Those that this process, or the one it was forked from, has used."""
    return list(_databases.values())


def find_database(key: str) -> Database | None:
    """The Database with this key, if this process or the one it was forked from has used it."""
    return next((each for each in known_databases() if each.key == key), None)


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
