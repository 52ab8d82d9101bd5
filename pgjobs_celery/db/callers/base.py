"""The parts of a caller's connection that we need; and which connection holds where we run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from ...errors import CannotJoin
from ...scopes.scopes import Scope, Scoped
from ..connection import Call, Row
from .watching import Pending, Watch

#: Why a transaction that is open already cannot be the task's own.
NOT_OURS = (
    "transaction() was given a connection with a transaction that other code has begun, and must "
    "commit: the job would be completed by a commit that may never come. Enter the block of "
    "transaction() first, and what has begun the other ({what}) not at all, or in the block"
)
AUTOCOMMIT = (
    "transaction() was given a connection of SQLAlchemy in autocommit mode: each statement would "
    "be committed by itself. Take one whose isolation_level is another"
)

#: Statements that set something for the rest of the transaction, which is not ours to change.
SETTINGS = frozenset({b"pin_plans", b"plan_anew", b"relax_commit", b"wait_briefly"})


class Caller(ABC):
    """A connection of the caller's own. We neither commit nor roll back what is done over it."""

    #: The alias in Django's settings; None for a connection that is not Django's.
    alias: str | None = None
    #: Something was published over it, so that its transaction has begun.
    took_part = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caller) and self.identity is other.identity

    def __hash__(self) -> int:
        return id(self.identity)

    @property
    def identity(self) -> object:
        """A value that is the same for two callers of one connection."""
        return self

    @abstractmethod
    def address(self) -> Hashable:
        """The same for connections that lead to the same database."""

    def run(self, *transactions: Sequence[Call]) -> list[list[Row]]:
        """Run the calls in the caller's transaction; the rows of each, in order.

        Takes the place of :meth:`pgjobs_celery.db.connection.Connection.run`.
        """
        return [
            [] if call.prepared.name in SETTINGS else self._execute_or_explain(call)
            for transaction in transactions
            for call in transaction
        ]

    def _execute_or_explain(self, call: Call) -> list[Row]:
        try:
            return self.execute(call)
        except Exception as error:
            if _has_taken_null_for_text(error):
                raise CannotJoin(
                    "array_nulls is off on the connection that using() was given, so that the "
                    "server takes NULL in an array for a text, and jobs cannot be put in bulk: run "
                    "`SET array_nulls = on` over it first, or ALTER ROLE … SET array_nulls = on"
                ) from error
            raise

    @abstractmethod
    def execute(self, call: Call) -> list[Row]:
        """Run a statement; its rows. Raises what the caller's own statements would raise."""

    def peek(self, call: Call) -> list[Row]:
        """As :meth:`execute`, for a question of ours that no watcher must count."""
        return self.execute(call)

    @abstractmethod
    def position(self) -> Hashable:
        """Where in the transaction we are: another value in another savepoint."""

    @abstractmethod
    def watch(self, pending: Pending) -> Watch:
        """Watch over what is collected, to be written over this connection."""

    @abstractmethod
    def own(self, *, may_nest: bool = False) -> AbstractContextManager[None]:
        """A block that is one transaction: committed when it ends, rolled back if it raises.

        Raises CannotJoin where another block would have to commit it, unless it ``may_nest``.
        """

    def prepare(self) -> None:  # noqa: B027
        """Before the last statement of :meth:`own`: send what the caller's library still keeps.

        Raises CannotJoin if the transaction has ended in the block.
        """

    @property
    def has_begun(self) -> bool:
        """False where nothing is published in its transaction yet."""
        return self.took_part

    @property
    def can_execute(self) -> bool:
        """False where a statement cannot be waited for, here."""
        return True

    def own_error(self, error: psycopg.Error) -> BaseException | None:
        """The error of the caller's own driver; None for a psycopg error as it is."""
        return None


def _has_taken_null_for_text(error: BaseException) -> bool:
    """True for "invalid input syntax": "NULL", of whichever driver, in whichever language."""
    own = getattr(error, "orig", None) or error
    code = getattr(own, "sqlstate", None) or getattr(own, "pgcode", None)
    return code in ("22P02", "22007") and "NULL" in str(own)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as every driver takes them."""
    return {name: plain_value(value) for name, value in values.items()}


def plain_value(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)  # psycopg2 knows none
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [plain_value(each) for each in value]  # a tuple is a record to psycopg2
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value


class TransactionPoint(NamedTuple):
    """Where jobs are put: over whose connection, and where in its transaction."""

    caller: Caller | None = None
    position: Hashable = None

    @classmethod
    def of(cls, scope: Scope[Caller | None] | None) -> TransactionPoint:
        """The point of a scope; of none, our own connections."""
        caller = scope.value if scope else None
        return cls(caller, caller.position()) if caller else cls()


#: The caller whose transaction this code takes part in; None for "in none, whatever is around".
callers: Scoped[Caller | None] = Scoped("pgjobs_using")
