"""One connection to PostgreSQL that sends several statements in one flush.

psycopg's own pipeline costs 175 µs of CPU for an INSERT and its wake-up; libpq's, driven through
``psycopg.pq``, 55 µs, and less than two plain ``execute`` calls take in time. The hot path pays
for that difference once per job, so hot statements go through :meth:`Connection.run`.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import pq, waiting
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.waiting import Ready, Wait

from ..errors import PermissionMissing
from .binary_arrays import ELEMENTS, binary_array
from .deadline import OutOfTime, in_time
from .dsn import describe
from .failures import connection_failed
from .liveness import Liveness
from .sql import statement

#: Errors that kombu must treat as a lost connection: worth another try on a new one. A server that
#: takes no writes is one too: behind a name or an address that moves, another takes them by now.
#: And so is one that has ended a session which took too long in its transaction.
CONNECTION_ERRORS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)

#: A session that waits says so now and then, in seconds: a firewall forgets who is silent, and a
#: machine that has vanished is noticed though nothing is sent.
KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

#: The server, or the driver, will not have these values, however often they are sent.
REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    # A name that no index can hold, a nesting that no parser can follow: no lost connections,
    # though psycopg counts them among OperationalError.
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)

if (patcher := sys.modules.get("eventlet.patcher")) and patcher.is_monkey_patched("select"):
    # psycopg looks for gevent only, and would hold up all greenlets for as long as it waits.
    waiting.wait = waiting.wait_select

_PARAMETER = re.compile(r"%\((\w+)\)s")
#: A parameter that the statement says to be an array of a type that can be written in binary.
_ARRAY = re.compile(rf"%\((\w+)\)s::({'|'.join(ELEMENTS)})\[\]")
_BINARY = 1
#: A text that needs no quotes in an array.
_NUMBERS = {int, UUID}

Row = tuple[Any, ...]
Param = tuple["bytes | None", int]


@dataclass(frozen=True)
class Prepared:
    """A statement with numbered parameters, and the order they come in."""

    name: bytes
    sql: bytes
    params: tuple[str, ...]
    #: The same with ``%(name)s``, as drivers take it.
    text: str
    #: The OIDs of the elements of those parameters that are arrays of texts or bytes.
    elements: Mapping[str, int]


class Call(NamedTuple):
    """A statement and what to put into it; runs of calls make a transaction."""

    prepared: Prepared
    values: list[bytes | None]
    formats: list[int]
    #: The values as they were given.
    given: Mapping[str, Any]


@cache
def prepared(name: str, schema: str) -> Prepared:
    """``queries/<name>.sql`` with ``%(x)s`` turned into ``$1``, as libpq wants it."""
    params: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in params:
            params.append(match[1])
        return f"${params.index(match[1]) + 1}"

    text = statement(name, schema)
    sql = _PARAMETER.sub(number, text)
    elements = {param: ELEMENTS[kind] for param, kind in _ARRAY.findall(text)}
    return Prepared(name.encode(), sql.encode(), tuple(params), text, elements)


def call(name: str, schema: str, values: Mapping[str, Any]) -> Call:
    """The statement ``name`` with ``values`` in place."""
    query = prepared(name, schema)
    elements = query.elements
    encoded = [encode(values[param], elements.get(param)) for param in query.params]
    return Call(query, [value for value, _ in encoded], [format for _, format in encoded], values)


def encode(value: Any, element: int | None = None) -> Param:
    """A parameter in PostgreSQL's text format, or binary for bytes, and for arrays of ``element``:
    the OID of their elements' type, where :data:`ELEMENTS` has it."""
    if value is None:  # as most parameters of an insert are
        return _NULL
    if element is not None and isinstance(value, (list, tuple)):
        array = binary_array(value, element)
        if array is not None:
            return array, _BINARY
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        encoder = next(
            (make for kind, make in _ENCODERS.items() if isinstance(value, kind)), _plain
        )
    return encoder(value)


def _text(value: str) -> str:
    # libpq takes a parameter in text format for a C string, and would cut it off at the NUL.
    if "\x00" in value:
        raise psycopg.DataError("PostgreSQL text cannot contain NUL (0x00) characters")
    return value


def array_literal(values: Sequence[Any]) -> str:
    """An array literal: ``{1,2}``, ``{"a","b\\"c"}``."""
    kinds = set(map(type, values))
    if kinds <= _NUMBERS:
        return f"{{{','.join(map(str, values))}}}"
    if kinds == {str}:
        return _texts_literal(values)
    if kinds == {type(None)}:  # as a column of many jobs' is
        return f"{{{','.join(['NULL'] * len(values))}}}"
    if kinds == {bytes}:
        return '{"\\\\x' + '","\\\\x'.join(map(bytes.hex, values)) + '"}'
    return f"{{{','.join(map(_element, values))}}}"


def _texts_literal(values: Sequence[str]) -> str:
    # All at once: one by one it is half of what a job of a thousand costs here.
    joined = "\x00".join(values)
    if joined.count("\x00") >= len(values):
        _text("\x00")
    escaped = joined.replace("\\", "\\\\").replace('"', '\\"').replace("\x00", '","')
    return f'{{"{escaped}"}}'


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f'"\\\\x{value.hex()}"'
    escaped = _text(str(value)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(value: Any) -> Param:
    return str(value).encode(), 0  # int, float, UUID


_NULL: Param = (None, 0)
#: How to send a value of a type; bool before int, of which it is a subclass.
_ENCODERS: dict[type, Callable[[Any], Param]] = {
    str: lambda value: (_text(value).encode(), 0),
    bool: lambda value: (b"t" if value else b"f", 0),
    int: _plain,
    float: _plain,
    UUID: _plain,
    bytes: lambda value: (value, _BINARY),
    bytearray: lambda value: (bytes(value), _BINARY),
    memoryview: lambda value: (bytes(value), _BINARY),
    list: lambda value: (array_literal(value).encode(), 0),
    tuple: lambda value: (array_literal(value).encode(), 0),
    datetime: lambda value: (value.isoformat().encode(), 0),
}


class Connection:
    """An autocommit connection; every transaction in :meth:`run` is committed by itself.

    Holds no session state that a statement depends on, so that a transaction pooler may stand
    between: what a statement needs of the session is set within its transaction.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        connect_timeout: float,
        prepare: bool,
        ask_after: float = math.inf,
        **parameters: Any,
    ) -> None:
        self._where = describe(conninfo)
        self._pid = os.getpid()
        #: Its server and database, as :func:`pgjobs_celery.db.django_aliases.home_of` has it.
        self.home: Hashable = None
        params: dict[str, Any] = conninfo_to_dict(conninfo)
        params.setdefault("connect_timeout", max(2, round(connect_timeout)))
        params.setdefault("application_name", "pgjobs-celery")
        # Statements and values are sent in it, whatever a role, a database or the environment says.
        params = {**KEEPALIVES, **parameters, **params, "client_encoding": "UTF8"}
        try:
            self._connection = in_time(
                # Once psycopg has prepared a statement of its own, it has all of the session's
                # forgotten at each rollback, ours too.
                lambda: psycopg.connect(**params, autocommit=True, prepare_threshold=None),
                psycopg.Connection.close,
            )
        except OutOfTime:
            raise
        except psycopg.Error as error:
            raise connection_failed(error, conninfo) from None
        #: How long it waits for an answer, and who does.
        self.liveness = Liveness(self._connection, params, ask_after)
        self._connection.add_notice_handler(lambda diagnostic: None)
        self._pgconn = self._connection.pgconn
        self._prepare = prepare
        self._known: set[bytes] = set()
        self._busy = False

    @property
    def is_usable(self) -> bool:
        """False once the server is gone or an exchange was left half done."""
        return (
            not self._busy
            and not self.liveness.is_left
            and self._pgconn.status == pq.ConnStatus.OK
            and self._pid == os.getpid()
        )

    def fileno(self) -> int:
        """The socket, for an event loop."""
        return self._pgconn.socket

    @property
    def psycopg(self) -> psycopg.Connection[Row]:
        """The psycopg connection, for what needs no speed: migrations, LISTEN."""
        return self._connection

    def close(self) -> None:
        """Close it; never raises. Does nothing in a process that only inherited it."""
        if self._pid == os.getpid() and not self.liveness.is_left:
            self._connection.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connection without a word to the server."""
        with contextlib.suppress(OSError, psycopg.Error):
            os.close(self._pgconn.socket)

    def run(self, *transactions: Sequence[Call]) -> list[list[Row]]:
        """Run each transaction, all in one flush; the rows of each call, in order.

        Raises the psycopg error of the first call that failed; the other transactions have run.
        """
        return self._connection.wait(self.exchange(transactions))

    def exchange(
        self, transactions: Sequence[Sequence[Call]]
    ) -> Generator[Wait, Ready | int, list[list[Row]]]:
        """As :meth:`run`, as a generator that yields when it has to wait for the socket."""
        pgconn = self._pgconn
        self._busy = True
        expected = self._send(transactions)
        while pgconn.flush():
            if (yield Wait.RW) & Ready.R:
                pgconn.consume_input()
        rows: list[list[Row]] = []
        failed: psycopg.Error | None = None
        for wanted, preparing in expected:
            while True:
                while pgconn.is_busy():
                    yield Wait.R
                    pgconn.consume_input()
                result = pgconn.get_result()
                if result is not None:
                    break
            if result.status == pq.ExecStatus.FATAL_ERROR:
                failed = failed or error_from_result(result)
            if preparing and result.status != pq.ExecStatus.COMMAND_OK:
                self._known.discard(preparing)
            if wanted:
                rows.append(self._load(result))
        while pgconn.get_result() is not None:
            pass
        pgconn.exit_pipeline_mode()
        self._busy = False
        if failed is not None:
            if isinstance(failed, psycopg.errors.InsufficientPrivilege):
                raise PermissionMissing(
                    f"the database role may not do this at {self._where}: {failed}; let the owner "
                    "of the schema GRANT it, or connect as the role that migrated"
                ) from failed
            raise failed
        return rows

    def _send(self, transactions: Sequence[Sequence[Call]]) -> list[tuple[bool, bytes | None]]:
        """Put all of it into the pipeline; what comes back.

        Of each command, whether its rows are wanted, and the name of the statement it prepares.
        """
        pgconn = self._pgconn
        # To prepare a statement locks its tables until the transaction ends. So inside of one each
        # is prepared at its turn: locks are taken in an order that knows no deadlock.
        is_inside = pgconn.transaction_status != pq.TransactionStatus.IDLE
        pgconn.enter_pipeline_mode()
        expected: list[tuple[bool, bytes | None]] = []
        if self._prepare and not is_inside:
            # Apart from the transactions: one that fails must not take along what others need.
            for query in (call.prepared for transaction in transactions for call in transaction):
                if query.name not in self._known:
                    pgconn.send_prepare(query.name, query.sql)
                    pgconn.pipeline_sync()
                    expected += [(False, query.name), (False, None)]
                    self._known.add(query.name)
        for transaction in transactions:
            for query, values, formats, _ in transaction:
                if not self._prepare:
                    pgconn.send_query_params(
                        query.sql, values, param_formats=formats, result_format=_BINARY
                    )
                else:
                    if is_inside and query.name not in self._known:
                        pgconn.send_prepare(query.name, query.sql)
                        expected.append((False, query.name))
                        self._known.add(query.name)
                    pgconn.send_query_prepared(
                        query.name, values, param_formats=formats, result_format=_BINARY
                    )
                expected.append((True, None))
            pgconn.pipeline_sync()
            expected.append((False, None))
        return expected

    def _load(self, result: pq.abc.PGresult) -> list[Row]:
        if not result.ntuples:
            return []
        transformer = Transformer(self._connection)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)
