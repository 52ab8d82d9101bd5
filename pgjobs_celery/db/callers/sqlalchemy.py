"""Connections and sessions of SQLAlchemy.

Statements go the way of the caller's own, so that SQLAlchemy begins the transaction where none has
begun, and its listeners hear of them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransactionOrigin, scoped_session

from ...errors import CannotJoin, InvalidOption
from ..connection import Call, Row
from .base import AUTOCOMMIT, NOT_OURS, Caller, plain
from .sqlalchemy_watching import SqlalchemyWatch
from .watching import Pending, Watch

#: The drivers that take our statements, by the parameters they want.
_NAMED = ("psycopg", "psycopg2")
_NUMBERED = ("asyncpg",)


def find_sqlalchemy_caller(connection: Any) -> Caller | None:
    """The connection or session as we use it; None for anything else."""
    if isinstance(connection, scoped_session):
        connection = connection()  # that of who calls
    return SqlalchemyCaller(connection) if isinstance(connection, (Connection, Session)) else None


class SqlalchemyCaller(Caller):
    """A Connection, or the one that a Session has or gets for its transaction."""

    def __init__(self, source: Connection | Session, *, is_async: bool = False) -> None:
        self._source = source
        #: It is the inner one of asyncio's.
        self.is_async = is_async
        self._is_numbered = _check_driver(source) in _NUMBERED
        # Lent to threads, it is still to do one thing at a time.
        self._turn = threading.Lock()
        #: The transaction of :meth:`own`.
        self._owned: Any = None

    @property
    def identity(self) -> object:
        return self._source

    def address(self) -> Hashable:
        source = self._source
        bind = source.get_bind() if isinstance(source, Session) else source
        return weakref.ref(bind.engine)

    def execute(self, call: Call) -> list[Row]:
        given = plain(call.given)
        with self._turn:
            source = self._source
            connection = source.connection() if isinstance(source, Session) else source
            if self._is_numbered:
                query = call.prepared
                values = tuple(given[name] for name in query.params)
                result = connection.exec_driver_sql(query.sql.decode(), values)
            else:
                result = connection.exec_driver_sql(call.prepared.text, given)
            rows = result.fetchall() if result.returns_rows else []
        return [tuple(map(_loaded, row)) for row in rows]

    @contextmanager
    def own(self, *, may_nest: bool = False) -> Iterator[None]:
        source = self._source
        if self._is_nested():
            if not may_nest:
                raise CannotJoin(NOT_OURS.format(what="`begin()`, or a statement before the block"))
            with source.begin_nested():
                yield
            return
        try:
            self._owned = source.get_transaction() or source.begin()
            self._require_transactions()
            yield
        except BaseException:
            source.rollback()
            raise
        source.commit()

    def _is_nested(self) -> bool:
        """True in a transaction whose end is another's business."""
        source = self._source
        if isinstance(source, Connection):
            return source.in_transaction()
        bind = source.get_bind()
        if isinstance(bind, Connection) and bind.in_transaction():
            return True
        # A session ends with its commit() the transaction that it has begun by itself.
        begun = source.get_transaction()
        return begun is not None and begun.origin is not SessionTransactionOrigin.AUTOBEGIN

    def _require_transactions(self) -> None:
        source = self._source
        connection = source.connection() if isinstance(source, Session) else source
        if getattr(connection.connection.dbapi_connection, "autocommit", False):
            raise CannotJoin(AUTOCOMMIT)

    def prepare(self) -> None:
        source = self._source
        if self._owned is not None and source.get_transaction() is not self._owned:
            raise CannotJoin(
                "the transaction was committed or rolled back within `self.transaction()`, which "
                "commits it itself, when the block ends"
            )
        if isinstance(source, Session):
            source.flush()

    def position(self) -> Hashable:
        return self._source.get_nested_transaction()

    def watch(self, pending: Pending) -> Watch:
        return SqlalchemyWatch(pending, self._source, is_async=self.is_async)


def _check_driver(source: Connection | Session) -> str:
    """The driver, if it is one of those that take our statements."""
    if isinstance(source, Connection):
        if source.closed:
            raise InvalidOption("using() was given a Connection of SQLAlchemy that is closed")
        dialect = source.dialect
    else:
        try:
            dialect = source.get_bind().dialect
        except UnboundExecutionError:
            raise InvalidOption(
                "using() was given a Session that has no bind, or one for each mapper: say which "
                'by using(session.connection(bind_arguments={"mapper": Order}))'
            ) from None
    if dialect.name != "postgresql" or dialect.driver not in (*_NAMED, *_NUMBERED):
        raise InvalidOption(
            f"using() was given a connection of SQLAlchemy over {dialect.name}+{dialect.driver}; "
            "jobs can be put over postgresql+psycopg, postgresql+psycopg2 or postgresql+asyncpg, "
            "in the database where they are"
        )
    return dialect.driver


def _loaded(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value  # psycopg2's bytea
