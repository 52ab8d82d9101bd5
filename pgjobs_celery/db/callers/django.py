"""Django's connections: those of the thread, in ``atomic`` blocks or without autocommit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from ...errors import CannotJoin
from ..connection import Call, Row
from ..django_aliases import find_connection, is_inherited, open_connections
from .base import NOT_OURS, Caller, TransactionPoint, plain
from .django_watching import DjangoWatch
from .watching import Pending, Watch


class DjangoCaller(Caller):
    """A connection of Django's, on either of its drivers.

    Statements go through Django's own cursor, so that it knows of each: it logs and counts them,
    refuses them in a block that is broken, and knows that the transaction is begun.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.alias = connection.alias

    @property
    def identity(self) -> object:
        return self._connection

    def address(self) -> Hashable:
        # The test runner gives the database another name.
        return self._connection.alias, self._connection.settings_dict["NAME"]

    @property
    def is_in_transaction(self) -> bool:
        """True in an ``atomic`` block and, but for a worker's tasks, without autocommit.

        The worker publishes what comes after a task, when the task's own code is over: then
        nothing commits any more what that has left open.
        """
        connection = self._connection
        if is_inherited(connection):
            return False
        if connection.in_atomic_block:
            return True
        if _is_in_task():
            return False
        if connection.connection is None:
            return not connection.settings_dict["AUTOCOMMIT"]
        return not connection.autocommit

    @property
    def has_begun(self) -> bool:
        """True in a transaction: there is another one of these for each publish."""
        connection = self._connection
        if connection.in_atomic_block:
            return True
        # Without autocommit a question of ours would begin one; idle is 0, to both drivers.
        inner = connection.connection
        return inner is not None and bool(inner.info.transaction_status)

    @contextmanager
    def own(self, *, may_nest: bool = False) -> Iterator[None]:
        from django.db import transaction

        connection = self._connection
        is_outer = not connection.in_atomic_block
        if not is_outer and not may_nest:
            raise CannotJoin(NOT_OURS.format(what="`transaction.atomic()`"))
        commits_itself = is_outer and not connection.get_autocommit()
        try:
            with transaction.atomic(using=self.alias):
                yield
        except BaseException:
            if commits_itself:
                connection.rollback()
            raise
        if commits_itself:
            connection.commit()

    def position(self) -> Hashable:
        connection = self._connection
        return tuple(connection.savepoint_ids), tuple(connection.atomic_blocks)

    def watch(self, pending: Pending) -> Watch:
        return DjangoWatch(pending, self._connection, self.position)

    def execute(self, call: Call) -> list[Row]:
        return self._execute(self._connection.cursor, call)

    def peek(self, call: Call) -> list[Row]:
        """By the driver's own cursor, so that ``assertNumQueries`` counts the same whatever ran
        before it in the process."""
        connection = self._connection
        connection.validate_no_broken_transaction()
        connection.ensure_connection()
        with connection.wrap_database_errors:
            return self._execute(connection.connection.cursor, call)

    def _execute(self, make_cursor: Callable[[], Any], call: Call) -> list[Row]:
        from django.db import Error

        try:
            with make_cursor() as cursor:
                cursor.execute(call.prepared.text, plain(call.given))
                return [self._loaded(row) for row in cursor] if cursor.description else []
        except Error as error:
            if error.__cause__ is None:  # Django's own, of a block that is broken
                raise
            raise _as_ours(error, error.__cause__) from error

    def own_error(self, error: psycopg.Error) -> BaseException | None:
        from django.db import Error

        return error.__cause__ if isinstance(error.__cause__, Error) else None

    def _loaded(self, row: Row) -> Row:
        return tuple(self._value(value) for value in row)

    def _value(self, value: Any) -> Any:
        if isinstance(value, memoryview):
            return bytes(value)
        if isinstance(value, datetime) and value.tzinfo is None:  # USE_TZ is off
            return value.replace(tzinfo=ZoneInfo(self._connection.timezone_name))
        return value


def _in_no_task() -> bool:
    return False


_is_in_task: Callable[[], bool] = _in_no_task


def is_in_task() -> bool:
    """True where a worker runs a task in this thread."""
    return _is_in_task()


def tell_of_tasks(is_in_task: Callable[[], bool]) -> None:
    """Give a way to know whether a worker runs a task in this thread: this layer has none."""
    global _is_in_task
    _is_in_task = is_in_task


def _as_ours(error: Exception, cause: BaseException) -> psycopg.Error:
    """The error as it is over our own connections, for who can do something about it."""
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    kind = getattr(psycopg, type(error).__name__, psycopg.DatabaseError)
    if code:
        with suppress(KeyError):
            kind = psycopg.errors.lookup(code)
    converted: psycopg.Error = kind(str(error))
    return converted


def is_django(connection: Any) -> bool:
    """True for an alias, and for what ``django.db`` calls a connection."""
    if isinstance(connection, str):
        return True
    if "django.db" not in sys.modules:
        return False
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.utils.connection import ConnectionProxy

    return isinstance(connection, (BaseDatabaseWrapper, ConnectionProxy))


def caller_of(connection: Any) -> DjangoCaller:
    """The connection of this thread that an alias, or one of Django's connections, stands for."""
    return DjangoCaller(
        find_connection(connection if isinstance(connection, str) else connection.alias)
    )


def point_on(alias: str) -> TransactionPoint:
    """Where jobs are put on an alias: in Django's transaction there, if it is in one."""
    return _point(find_connection(alias))


def open_points() -> dict[str, TransactionPoint]:
    """The same for every alias that this thread has used."""
    return {connection.alias: _point(connection) for connection in open_connections()}


def _point(connection: Any) -> TransactionPoint:
    caller = DjangoCaller(connection)
    return (
        TransactionPoint(caller, caller.position())
        if caller.is_in_transaction
        else TransactionPoint()
    )
