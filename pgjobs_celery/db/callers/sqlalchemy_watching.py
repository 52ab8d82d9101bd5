"""Watch SQLAlchemy's connections and sessions, by its events."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any

from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from .watching import Pending, Watch, control_of

#: Its own savepoints, of which it tells by its transactions.
_OWN = re.compile(r"\bsa_savepoint_\d+\s*$")


class SqlalchemyWatch(Watch):
    """Over a Connection or Session; what must be written goes ahead of a commit of either."""

    def __init__(self, pending: Pending, source: Connection | Session, *, is_async: bool) -> None:
        super().__init__(pending)
        self._source = source
        #: Replaced when SQL may have begun or ended something, of which SQLAlchemy does not know.
        self._token = object()
        #: The connections whose transaction has begun at the server: it must not be over unheard.
        self._begun: set[Connection] = set()
        self._heard: list[tuple[Any, str, Callable[..., Any]]] = []
        if isinstance(source, Session):
            self._listen(source, "before_commit", self._before_commit)
            self._listen(source, "after_soft_rollback", self._after_soft_rollback)
            if is_async:  # where the loop alone may ask for the connection
                self._listen(source, "after_begin", self._after_begin)
                for connection in connections_of(source):
                    self._listen_to_statements(connection)
                return
        connection = source.connection() if isinstance(source, Session) else source
        self._listen_to_statements(connection)
        if connection is source:
            self._listen(source, "commit", self._before_commit)
            self._listen(source, "rollback", self._before_rollback)
            self._listen(source, "release_savepoint", self._before_commit)
            self._listen(source, "rollback_savepoint", self._before_rollback)

    def mark(self) -> Hashable:
        source = self._source
        if source.get_transaction() is None:
            source.begin()  # begun, it is told from the one after it; nothing is sent yet
        return source.get_transaction(), source.get_nested_transaction(), self._token

    @property
    def is_there(self) -> bool:
        self._see_what_has_ended()
        source = self._source
        return self._began_at == (
            source.get_transaction(),
            source.get_nested_transaction(),
            self._token,
        )

    def close(self) -> None:
        while self._heard:
            event.remove(*self._heard.pop())

    def _listen(self, target: Any, name: str, method: Callable[..., Any]) -> None:
        event.listen(target, name, method)
        self._heard.append((target, name, method))

    def _listen_to_statements(self, connection: Connection) -> None:
        if all(target is not connection for target, *_ in self._heard):
            self._listen(connection, "before_cursor_execute", self._before_cursor_execute)
            self._listen(connection, "after_cursor_execute", self._after_cursor_execute)
            self._see_what_has_begun(connection)

    def _after_begin(self, session: Session, transaction: Any, connection: Connection) -> None:
        self._listen_to_statements(connection)

    def _before_commit(self, *_: Any) -> None:
        self.foresee(is_kept=True)

    def _before_rollback(self, *_: Any) -> None:
        self.foresee(is_kept=False)

    def _after_soft_rollback(self, session: Session, previous: Any) -> None:
        began_at: Any = self._began_at
        if previous in began_at[:2]:
            self.pending.drop(self)

    def _before_cursor_execute(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self._see_what_has_ended()
        self._hear(statement)

    def _after_cursor_execute(self, connection: Any, *_: Any) -> None:
        self._see_what_has_begun(connection)

    def _see_what_has_begun(self, connection: Connection) -> None:
        if is_begun(connection):
            self._begun.add(connection)

    def _see_what_has_ended(self) -> None:
        """Notice a commit or rollback by the driver's connection, behind SQLAlchemy's back."""
        if any(not is_begun(connection) for connection in self._begun):
            self._begun.clear()
            self._token = object()

    def _hear(self, statement: str) -> None:
        is_kept = control_of(statement)
        if is_kept is None or _OWN.search(statement):
            return
        self.foresee(is_kept=is_kept)
        self._token = object()


def is_begun(connection: Connection) -> bool:
    """Whether the driver knows of a transaction; it asks nobody."""
    if connection.closed or connection.invalidated:
        return False
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "is_in_transaction"):
        return bool(driver.is_in_transaction())  # asyncpg's
    # psycopg's, and psycopg2's
    return bool(driver.info.transaction_status != TransactionStatus.IDLE)


def connections_of(session: Session) -> set[Connection]:
    """Those that a session has for its transaction by now.

    SQLAlchemy's public way to ask for one connects where there is none.
    """
    transaction: Any = session.get_transaction()
    return {entry[0] for entry in transaction._connections.values()} if transaction else set()
