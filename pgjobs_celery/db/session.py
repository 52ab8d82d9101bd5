"""One process's connections to one database: a pool, and transactions over it.

The pool connects in the thread that asks, so that an error names its cause and comes at once,
and it is made anew after a fork. psycopg-pool does neither: it connects in background threads
(a refused login is a PoolTimeout 30 s later, with three more threads in each pool child).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any, TypeVar

import psycopg

from ..config import Options
from ..errors import ConnectionFailed
from . import notify
from .callers.django import is_in_task
from .connection import CONNECTION_ERRORS, Call, Connection, Row, call, prepared
from .deadline import OutOfTime, time_left
from .django_aliases import home_of, resolve
from .dsn import Target, alias_of, describe
from .failures import read_only
from .idle import Idle
from .joining import Joining
from .migrations.versions import check_schema
from .notify import Listener
from .outage import Outage
from .places import wait_for_place
from .resends import Unanswered
from .rights import Rights

T = TypeVar("T")

#: How long a task waits for a place on a server that is full, in seconds: what it publishes next,
#: and its outcome cannot be made again.
TASK_TIMEOUT = 60.0

#: Of how many queues the statement that wakes their workers is kept.
REMEMBERED = 1000

#: After how many seconds without an answer a server is asked that has only to say who listens.
LISTENING = 2.0


class Session(Joining):
    """A process's connections to one database, and what runs over them. Thread-safe.

    Connects when it is first used.
    """

    def __init__(self, conninfo: str, options: Options, alternates: Sequence[str] = ()) -> None:
        self.conninfo = conninfo
        self.options = hide_password(options)
        self.schema = options.schema
        #: The same for every process that spells the URL and the schema alike; tells nothing of it.
        named = ";".join(alternates) or conninfo
        self.key = sha256(f"{named} {options.schema}".encode()).hexdigest()[:16]
        self._idle = Idle(options.idle_timeout)
        self._free = threading.BoundedSemaphore(options.pool_size)
        self._out: set[Connection] = set()
        self._returned = threading.Condition()
        #: The state of each thread: its wait for an idle connection, and its transaction's one.
        self._local = threading.local()
        #: The privileges that the role needs; None: those of a worker.
        self.rights: Rights | None = None
        #: Where the tables were seen to be there.
        self._checked: Hashable = None
        #: NULL in an array is none of its texts there.
        self._knows_nulls = True
        #: The alias that Django's settings have for it; None for a database of our own URL.
        self.alias = alias_of(conninfo)
        #: The statements that wake who waits, encoded: each publish sends one.
        self._wakes: dict[tuple[str, str, int, bool], Call] = {}
        #: How often rules of flow control were changed from here: who publishes reads them anew.
        self.rules_changes = 0
        self.init_joining()
        #: Logs the times without a connection.
        self.outage = Outage(describe(conninfo))
        #: The jobs that were sent from here and may be there or not.
        self.unanswered = Unanswered()

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
        return self._wake(kind, name)

    def wake_for_jobs(self, queue: str, count: int = 1) -> Call:
        """The statement that tells workers that so many jobs are in line, if one waits for them.

        One more is told than there are jobs: it may have stopped, or lost its connection. All are
        in a transaction, with whose commit a worker may be gone that waits now.
        """
        if self.is_in_transaction or count >= notify.BELLS:
            return self._wake(notify.JOB, queue)
        return self._wake(notify.JOB, queue, count + 1)

    def _wake(self, kind: str, name: str, bells: int = 0) -> Call:
        key = (kind, name, bells, self.is_joined)
        if (known := self._wakes.get(key)) is not None:
            return known
        if len(self._wakes) >= REMEMBERED:
            self._wakes.clear()
        values = {
            "channel": notify.work_channel(self.schema), "kind": kind, "name": name,
            "space": notify.SLEEPERS,
        }  # fmt: skip
        self._wakes[key] = made = (
            self.call("ring_bells", **values, count=bells, **notify.BELL_VALUES)
            if bells
            else self.call("wake_sleepers", **values, is_joined=self.is_joined)
        )
        return made

    def wake_waiters(self, task_ids: Sequence[str]) -> Call:
        """The statement that tells those who wait for these results, as :meth:`wake` does."""
        return self.call(
            "wake_waiters",
            channel=notify.result_channel(self.schema),
            kind=notify.RESULT,
            space=notify.SLEEPERS,
            is_joined=self.is_joined,
            task_ids=task_ids,
            waiters=[notify.waiter(task_id) for task_id in task_ids],
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
                    # The idle ones have most likely been cut with it; each would be an error.
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

        An exception rolls it back. The commit wakes waiting workers.
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
                if connection.psycopg.closed:
                    # Something in the block may have overlooked it, as a wake-up does, and psycopg
                    # would leave without a COMMIT and without a word.
                    raise psycopg.OperationalError("the connection was lost in a transaction")
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

    def listen_for_work(self, bells: Iterable[int] = ()) -> Listener:
        """A connection of its own that hears of jobs and messages, and when these bells ring."""
        return self._listen(notify.work_channel(self.schema), bells)

    def listen_for_results(self) -> Listener:
        """A connection of its own that hears of results."""
        return self._listen(notify.result_channel(self.schema))

    def _listen(self, channel: str, bells: Iterable[int] = ()) -> Listener:
        url = self.options.listen_url
        conninfo = url.conninfo if isinstance(url, Target) else self.conninfo
        # A loop that has other things to do waits for its answers.
        return Listener(
            self._open(conninfo, ask_after=min(self.options.ask_after, LISTENING)), channel, bells
        )

    def wait_for_idle(self, seconds: float = 0.05) -> None:
        """Have this thread wait for so many seconds for an idle connection before it opens another.

        For the threads of a worker that take turns: three connections are enough for all of them.
        """
        self._local.idle_wait = seconds

    def _wait(self) -> Connection | None:
        seconds = getattr(self._local, "idle_wait", 0.0)
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

    def check(self) -> None:
        """Raise what keeps a new connection from being of use: no server, or another schema."""
        with self.connection() as connection:
            check_schema(connection.psycopg, self.schema, rights=self.rights)

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
            if connection.liveness.waiter == thread:
                connection.liveness.cut()

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
            timeout = max(timeout, TASK_TIMEOUT)
        connection = wait_for_place(open_one, conninfo, timeout, wait)
        connection.home = home
        return connection


def hide_password(options: Options) -> Options:
    """The options as they may be shown, and as they are the same for all who ask."""
    url = options.listen_url
    if not url or isinstance(url, Target):
        return options
    return replace(options, listen_url=Target(url))
