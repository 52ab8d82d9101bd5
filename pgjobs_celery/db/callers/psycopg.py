"""psycopg connections of the caller's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from ...errors import CannotJoin, InvalidOption
from ..connection import Call, Row, array_literal
from .base import NOT_OURS, Caller, plain_value
from .bridge import AsyncCaller
from .psycopg_watching import PsycopgWatch, depth
from .watching import Pending, Watch

if TYPE_CHECKING:
    from typing_extensions import LiteralString

_IDLE = pq.TransactionStatus.IDLE
_IN_PIPELINE = pq.PipelineStatus.ON
#: The types of most values: nothing has to be made of them.
_AS_THEY_ARE = frozenset({str, int, float, bool, bytes, type(None), datetime})


class PsycopgCaller(Caller):
    """A psycopg connection, whatever its rows and cursors are."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        _check(connection)
        self._connection = connection

    @property
    def identity(self) -> object:
        return self._connection

    def address(self) -> Hashable:
        return _address(self._connection)

    def execute(self, call: Call) -> list[Row]:
        connection = self._connection
        # In one of the caller's pipelines there are no rows before it is synced.
        with connection.pipeline() if _is_in_pipeline(connection) else nullcontext():
            cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
            cursor.execute(text_of(call), numbered(call))
        # Its description would be made anew for each statement.
        return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

    @contextmanager
    def own(self, *, may_nest: bool = False) -> Iterator[None]:
        connection = self._connection
        has_outer = _has_outer(connection, may_nest)
        # In a transaction that is begun this is a savepoint. Nothing can commit in either.
        asked: psycopg.Rollback | None = None
        try:
            with connection.transaction():
                try:
                    yield
                except psycopg.Rollback as error:
                    asked = error  # which transaction() would swallow
                    raise
            if asked is not None:
                raise asked
        except BaseException:
            if has_outer is False:
                with suppress(psycopg.Error):  # a connection that is lost has rolled back
                    connection.rollback()
            raise
        if has_outer is False:
            connection.commit()

    def position(self) -> Hashable:
        return depth(self._connection)

    def watch(self, pending: Pending) -> Watch:
        return PsycopgWatch(pending, self._connection)


class AsyncPsycopgCaller(AsyncCaller):
    """A psycopg connection in an asyncio program."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        _check(connection)
        super().__init__()
        self._connection = connection

    @property
    def identity(self) -> object:
        return self._connection

    def address(self) -> Hashable:
        return _address(self._connection)

    async def aexecute(self, call: Call) -> list[Row]:
        connection = self._connection
        async with connection.pipeline() if _is_in_pipeline(connection) else nullcontext():
            cursor = psycopg.AsyncRawCursor(connection, row_factory=tuple_row)
            await cursor.execute(text_of(call), numbered(call))
        return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

    @asynccontextmanager
    async def aown(self, *, may_nest: bool = False) -> AsyncIterator[None]:
        connection = self._connection
        has_outer = _has_outer(connection, may_nest)
        asked: psycopg.Rollback | None = None
        try:
            async with connection.transaction():
                try:
                    yield
                except psycopg.Rollback as error:
                    asked = error
                    raise
            if asked is not None:
                raise asked
        except BaseException:
            if has_outer is False:
                with suppress(psycopg.Error):
                    await connection.rollback()
            raise
        if has_outer is False:
            await connection.commit()

    def position(self) -> Hashable:
        return depth(self._connection)

    def watch(self, pending: Pending) -> Watch:
        return PsycopgWatch(pending, self._connection)


def _check(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if connection.closed:
        raise InvalidOption("using() was given a psycopg connection that is closed")


def _has_outer(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], may_nest: bool
) -> bool | None:
    """Whether a block around this one ends the transaction; None where this one begins it.

    Raises CannotJoin if one does and must not.
    """
    if _is_in_pipeline(connection):
        raise CannotJoin(
            "transaction() was given a connection in pipeline mode, which sends a commit later "
            "than it says: enter `connection.pipeline()` in the block, not around it"
        )
    if depth(connection):
        if not may_nest:
            raise CannotJoin(NOT_OURS.format(what="`connection.transaction()`"))
        return True
    return None if connection.pgconn.transaction_status == _IDLE else False


def _address(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> Hashable:
    pgconn = connection.pgconn
    return pgconn.host, pgconn.port, pgconn.db


def _is_in_pipeline(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return connection.pgconn.pipeline_status == _IN_PIPELINE


def text_of(call: Call) -> LiteralString:
    """The statement: ours, and not any string's, for psycopg wants a literal.

    Not as bytes: OpenTelemetry adds to text.
    """
    return call.prepared.sql.decode()


def numbered(call: Call) -> list[Any]:
    """The values in the order of the statement's parameters, ``$1`` and so on.

    psycopg looks through a statement with names each time that it is run, if it is a long one; and
    it makes an array by its elements, where ours is one text.
    """
    given = call.given
    return [
        value if type(value := given[name]) in _AS_THEY_ARE else _sent(value)
        for name in call.prepared.params
    ]


def _sent(value: Any) -> Any:
    return array_literal(value) if isinstance(value, (list, tuple)) else plain_value(value)
