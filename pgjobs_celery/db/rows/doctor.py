"""The facts by which a database is examined: its server, its sessions, its tables, its queues.

Each statement is a transaction of its own that reads only, waits for no lock for long and ends
after
some seconds. They go over a connection of their own, which asks for no schema, and prepares
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from psycopg import errors as pg

from ...scopes.steady import monotonic
from ..connection import CONNECTION_ERRORS, Connection, call
from ..deadline import answered_by
from ..django_aliases import resolve
from ..dsn import Target
from ..migrations.objects import Objects, read_objects
from ..migrations.versions import Status, status
from ..notify import Listener
from ..rights import all_rights

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session

#: How long one statement may take, and wait for a lock, in seconds.
STATEMENT_SECONDS, LOCK_SECONDS = 5.0, 1.0
#: How long a notification may take before it counts as lost, in seconds.
NOTIFY_SECONDS = 2.0
#: How many queues are looked at, and how many of each one's first entries.
QUEUES, DEPTH = 1000, 100
#: How many chords, how many rows of the header of each, and how many groups.
CHORDS, MEMBERS, GROUPS = 50, 2000, 500
#: How many of anything else.
FEW = 20

#: The settings that are looked at, as they are for a new session.
SETTINGS = (
    "autovacuum", "default_transaction_isolation", "default_transaction_read_only", "fsync",
    "full_page_writes", "max_connections", "reserved_connections", "statement_timeout",
    "superuser_reserved_connections", "synchronous_commit", "track_counts",
)  # fmt: skip


class Link(NamedTuple):
    """How we are connected."""

    #: A host name, an address, or the folder of a Unix socket.
    host: str
    address: str
    is_encrypted: bool
    sslmode: str


class Server(NamedTuple):
    """The server, its settings, and how many of its connections are in use."""

    version_number: int
    version: str
    encoding: str
    is_standby: bool
    settings: Mapping[str, str]
    user: str
    database: str
    #: It may see the sessions of other roles.
    sees_sessions: bool
    used: int
    used_by_role: int
    used_by_database: int
    #: -1 for no limit.
    role_limit: int
    database_limit: int
    #: Of the queue of notifications, 0 to 1.
    notify_usage: float
    #: The server's clock, as seconds since 1970 ...
    clock: float
    #: ... and ours when it was read, give or take so many seconds.
    our_clock: float = 0.0
    uncertainty: float = 0.0


class Transaction(NamedTuple):
    """A session whose transaction began long ago."""

    pid: int
    user: str | None
    application: str | None
    address: str | None
    state: str | None
    seconds: float
    #: How many transactions ago the rows were deleted that VACUUM must keep for it; None: none.
    xmin_age: int | None
    query: str | None


class Holder(NamedTuple):
    """Something else for which VACUUM must keep dead rows: ``slot``, ``prepared``, ``standby``."""

    kind: str
    name: str
    #: The slot's process, the transaction's owner, the standby's address.
    who: str | None
    age: int
    seconds: float | None


class TableLock(NamedTuple):
    """A session that has locked one of our tables against writers; None: the role may not see"
    " it."""

    #: None for a prepared transaction.
    pid: int | None
    table: str
    mode: str
    user: str | None
    application: str | None
    state: str | None
    seconds: float | None
    query: str | None


class Table(NamedTuple):
    """A table by its statistics."""

    name: str
    live: int
    dead: int
    #: From so many dead rows on autovacuum acts.
    threshold: float
    #: Seconds since the last VACUUM, or since the server has started.
    vacuumed: float
    is_autovacuum_off: bool
    bytes: int
    #: How many its rows need, by an estimate; None where it is not known.
    needed: float | None


class Index(NamedTuple):
    """An index."""

    name: str
    table: str
    is_valid: bool
    is_being_built: bool
    bytes: int
    needed: float | None


class Queue(NamedTuple):
    """A queue with jobs in line, by its first DEPTH entries."""

    name: str
    waiting: int
    #: For how many seconds the first to be due has waited.
    seconds: float | None
    #: How many run for nodes that have no row; and one of them.
    orphans: int
    orphan: str | None
    #: For how many seconds it has been paused; None if it is not.
    paused: float | None
    concurrency: int | None
    consumers: int


class StuckFlow(NamedTuple):
    """A pause without an end, or a rule by which none of the jobs that wait for it can begin."""

    #: ``pause``, ``none`` for a rule that allows nothing, ``key`` for one whose argument none has.
    kind: str
    #: Of a pause: task, tag or key. Of a rule: the path of its argument.
    of: str
    name: str
    queue: str
    #: For how many seconds it is paused; how many lanes wait.
    number: float


class MessageQueue(NamedTuple):
    """A queue of messages that are no jobs, by its first DEPTH."""

    name: str
    waiting: int
    seconds: float | None
    orphans: int
    consumers: int


class SilentNode(NamedTuple):
    """A node past its lease, by so many seconds."""

    name: str
    seconds: float
    queues: list[str]
    live_nodes: int


class Late(NamedTuple):
    """A ``job`` that is due and not in line, or an ``entry`` whose tick has passed."""

    kind: str
    name: str
    #: The job's queue, the entry's app.
    where: str
    seconds: float


class OpenChord(NamedTuple):
    """A chord whose body is not published."""

    group_id: str
    seconds: float
    #: How many tasks its header has; None: it was never published in full.
    size: int | None
    #: How many of them have a row, and have finished; up to MEMBERS.
    there: int | None
    finished: int | None
    attempts: int
    #: How many seconds ago the last of them finished.
    last: float | None


class Looks:
    """Statements that examine a database, one method each. A context manager.

    Raises a psycopg OperationalError where it cannot connect.
    """

    def __init__(self, session: Session) -> None:
        self.schema = session.schema
        self.options = session.options
        self._conninfo = session.conninfo
        self._connection = self._open()

    def __enter__(self) -> Looks:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def link(self) -> Link:
        """How we are connected."""
        info = self._connection.psycopg.info
        named = info.get_parameters()
        encrypted = self._connection.psycopg.pgconn.ssl_in_use
        return Link(info.host, info.hostaddr, encrypted, named.get("sslmode", "prefer"))

    def examine_server(self) -> Server:
        """The server and its settings."""
        before, began = datetime.now(timezone.utc).timestamp(), monotonic()
        (row,) = self._fetch("examine_server", settings=SETTINGS)
        took = monotonic() - began
        values = dict(zip(Server._fields, row, strict=False))
        values["settings"] = json.loads(values["settings"])
        return Server(**values, our_clock=before + took / 2, uncertainty=took / 2)

    def list_transactions(self, seconds: float) -> list[Transaction]:
        """Sessions whose transaction is older, the oldest first."""
        rows = self._fetch("list_transactions", seconds=seconds, limit=FEW)
        return [Transaction(*row) for row in rows]

    def list_holders(self, seconds: float, age: int) -> list[Holder]:
        """Slots, standbys and prepared transactions that hold dead rows so old."""
        rows = self._fetch("list_holders", seconds=seconds, age=age, limit=FEW)
        return [Holder(*row) for row in rows]

    def list_locks(self) -> list[TableLock]:
        """Locks on our tables that keep writers out."""
        return [TableLock(*row) for row in self._fetch("list_locks", limit=FEW)]

    def status(self) -> Status:
        """The version of the schema; raises as"
        " :func:`pgjobs_celery.db.migrations.versions.status`."""
        connection = self._connection.psycopg
        with connection.transaction():
            for name, seconds in (("statement", STATEMENT_SECONDS), ("lock", LOCK_SECONDS)):
                connection.execute(f"SET LOCAL {name}_timeout = '{seconds * 1000:.0f}ms'")
            return status(connection, self.schema)

    def describe_schema(self) -> Objects:
        """Every object of the schema."""
        return read_objects(self._fetch("describe_schema"), self.schema)

    def list_missing_rights(self, found: Status) -> list[tuple[str, str]]:
        """Table, sequence, function or schema, and the privilege on it that a worker lacks."""
        needed = all_rights([each for each in found.files if each not in found.pending])
        pairs = [(name, privilege) for name, given in needed.items() for privilege in given]
        rows = self._fetch(
            "list_missing_rights",
            relations=[name for name, _ in pairs],
            privileges=[privilege for _, privilege in pairs],
        )
        return [(name, privilege) for name, privilege in rows]

    def survey_tables(self) -> list[Table]:
        """Our tables."""
        return [Table(*row) for row in self._fetch("survey_tables")]

    def survey_indexes(self) -> list[Index]:
        """Our indexes."""
        return [Index(*row) for row in self._fetch("survey_indexes")]

    def survey_queues(self) -> list[Queue]:
        """The queues that have jobs in line."""
        return [Queue(*row) for row in self._fetch("survey_queues", queues=QUEUES, depth=DEPTH)]

    def survey_flows(self) -> list[StuckFlow]:
        """The pauses that have no end, and the rules by which nothing can begin."""
        rows = self._fetch("survey_flows", limit=QUEUES, depth=DEPTH)
        return [StuckFlow(*row) for row in rows]

    def survey_messages(self, seconds: float) -> list[MessageQueue]:
        """The queues of messages; those have waited that did for so many seconds."""
        try:
            rows = self._fetch("survey_messages", queues=QUEUES, depth=DEPTH, seconds=seconds)
        except pg.FeatureNotSupported:
            return []  # a standby has none of those that may be lost, and reads no table with them
        return [MessageQueue(*row) for row in rows]

    def list_silent_nodes(self) -> list[SilentNode]:
        """The nodes past their lease."""
        return [SilentNode(*row) for row in self._fetch("list_silent_nodes", limit=FEW)]

    def list_late(self) -> list[Late]:
        """Jobs and entries whose time has come, and of which nothing came."""
        return [Late(*row) for row in self._fetch("list_late", limit=FEW)]

    def survey_chords(self, seconds: float, unsized: float) -> list[OpenChord]:
        """The chords that are open for so many seconds, or so many without a size."""
        rows = self._fetch(
            "survey_chords", seconds=seconds, unsized=unsized, chords=CHORDS, depth=MEMBERS,
            groups=GROUPS,
        )  # fmt: skip
        return [OpenChord(*row) for row in rows]

    def hears_notifications(self) -> bool:
        """True if a notification reaches a connection like that of a waiting worker."""
        url = self.options.listen_url
        channel = f"pgjobs_doctor_{uuid4().hex}"
        listener = Listener(self._open(url.conninfo if isinstance(url, Target) else None), channel)
        try:
            self._fetch("send_word", channel=channel)
            return bool(listener.wait(NOTIFY_SECONDS))
        finally:
            listener.close()

    def keeps_prepared(self) -> bool | None:
        """True if a statement that was prepared is there in a later transaction.

        Another transaction is open meanwhile, which gets the first one's session where a pooler
        gives
        sessions to transactions. None if it cannot be told: the pooler had no second one.
        """
        other = self._open(prepare=True)
        ping = call("ping", self.schema, {})
        try:
            other.run([ping])
            connection = self._connection.psycopg
            with connection.transaction(), answered_by(monotonic() + NOTIFY_SECONDS):
                connection.execute("SELECT 1")
                other.run([ping])
        except (pg.InvalidSqlStatementName, pg.DuplicatePreparedStatement):
            return False
        except CONNECTION_ERRORS:
            return None
        finally:
            other.close()
        return True

    def _open(self, conninfo: str | None = None, *, prepare: bool = False) -> Connection:
        return Connection(
            resolve(conninfo or self._conninfo),
            connect_timeout=self.options.connect_timeout,
            prepare=prepare,
            ask_after=self.options.ask_after,
        )

    def _fetch(self, name: str, /, **values: Any) -> list[Row]:
        if not self._connection.is_usable:
            self._connection.close()
            self._connection = self._open()
        begin = {
            "statement_timeout": f"{STATEMENT_SECONDS * 1000:.0f}ms",
            "lock_timeout": f"{LOCK_SECONDS * 1000:.0f}ms",
        }
        given = {"schema": self.schema, **values}
        return self._connection.run(
            [
                call("begin_looking", self.schema, {"schema": self.schema, **begin}),
                call("pin_plans", self.schema, {}),
                call(name, self.schema, given),
            ]
        )[2]
