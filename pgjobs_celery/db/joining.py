"""Take part in a transaction of the caller's own, or do something beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import psycopg

from ..errors import CannotJoin, InvalidURL, TransactionFailed
from . import notify
from .callers.base import Caller, TransactionPoint, callers
from .callers.django import open_points, point_on
from .connection import CONNECTION_ERRORS, Call, Connection, Row

#: How long a statement of ours, beside a caller's transaction in the same thread, waits for a row
#: that is held, in milliseconds. The holder may be this very transaction, which would wait for us:
#: no server sees such a deadlock.
LOCK_TIMEOUT = 5_000


class Joining:
    """The part of a Session that knows of transactions that are not ours."""

    schema: str
    alias: str | None
    call: Callable[..., Call]
    run: Callable[..., list[list[Row]]]
    transaction: Callable[[], AbstractContextManager[None]]
    _local: threading.local

    def init_joining(self) -> None:
        """Before anything else."""
        #: The addresses of callers' connections that were seen to lead here.
        self._addresses: set[Hashable] = set()

    @contextmanager
    def joining(self) -> Iterator[None]:
        """All that this thread does here in the block takes part in the caller's transaction.

        That is the one of :func:`pgjobs_celery.using`; where there is none, or this thread is in a
        transaction already, nothing is different. Raises TransactionFailed where kombu would take
        the caller's error for one of ours, and try again, and CannotJoin where the caller's
        connection leads to another database.
        """
        caller = None if self.is_in_transaction else self.find_point().caller
        if caller is None:
            yield
            return
        try:
            self._require_home(caller)
            self._local.caller = caller
            caller.took_part = True
            yield
        except psycopg.Error as error:
            if (own := caller.own_error(error)) is not None:
                raise own from own.__cause__
            if not isinstance(error, CONNECTION_ERRORS):
                raise
            raise TransactionFailed(
                f"the transaction that this was to be part of has failed: {error}"
            ) from error
        finally:
            self._local.caller = None

    def _require_home(self, caller: Caller) -> None:
        """See, once for each address, that the caller's connection leads here: there may be tables
        of ours elsewhere, too.

        Not where both are the same alias of Django's, whose settings say where that leads.
        """
        if elsewhere := self.find_stray(caller):
            there, here = elsewhere
            raise CannotJoin(
                f"using() was given a connection to the database {there!r}, and this belongs "
                f"into {here!r}: publish it outside of the block, or in `with using(None)`"
            )

    def find_stray(self, caller: Caller) -> tuple[str, str] | None:
        """Where the caller's connection leads, and where this is, if these are not the same."""
        address = caller.address()
        if address in self._addresses or (self.alias and caller.alias == self.alias):
            return None
        find = self.call("find_home")
        there, here = caller.peek(find)[0], self.run([find])[0][0]
        if there != here:
            return there[0], here[0]
        self._addresses.add(address)
        return None

    def find_uncommitted(self, task_ids: Sequence[str]) -> set[str]:
        """Those of the ids whose jobs are part of the caller's transaction, which is still open.

        Asks over the caller's connection, if anything was published over it: a savepoint that was
        rolled back has taken its jobs along. Nothing where that cannot be asked.
        """
        try:
            caller = None if self.is_in_transaction else self.find_point().caller
        except InvalidURL:
            return set()  # Django's settings have no such database: nothing was published over it
        if caller is None or not caller.has_begun or not caller.can_execute:
            return set()
        ids = list(task_ids)
        number = self.call("number_jobs", task_ids=ids)
        try:
            self._require_home(caller)
            # First: where tables are missing, it must not be the caller's transaction that fails.
            here = self._find_rows(number)
            self._local.caller = caller
            there = {*map(tuple, caller.peek(self.call("number_jobs", task_ids=ids)))}
        except Exception:
            # It has failed, leads elsewhere, or must not be used here (Django's on an event loop);
            # or this is another database that the process knows, and which does not answer.
            return set()
        finally:
            self._local.caller = None
        # Others may have committed one of them since the first look.
        new = there - here and there - self._find_rows(number)
        return {row[0] for row in new}

    def _find_rows(self, call: Call) -> set[Row]:
        return {*map(tuple, self.run([call])[0])}

    def find_point(self) -> TransactionPoint:
        """Where jobs are put here: over whose connection, and where in its transaction.

        Where no :func:`pgjobs_celery.using` says so, that is Django's for a database of Django's.
        """
        scope = callers.find()
        return point_on(self.alias) if self.alias and scope is None else TransactionPoint.of(scope)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A transaction of our own, also where this thread takes part in the caller's."""
        caller, self._local.caller = self._caller, None
        try:
            with self.transaction():
                yield
        finally:
            self._local.caller = caller

    @contextmanager
    def beside(self) -> Iterator[None]:
        """In this block nothing of this thread's takes part in the caller's transaction.

        In one of our own it does.
        """
        caller, self._local.caller = self._caller, None
        try:
            yield
        finally:
            self._local.caller = caller

    def on_rollback(self, forget: Callable[[], object]) -> None:
        """Call ``forget`` if the transaction of ours that this thread is in, or a savepoint of it,
        is rolled back; nothing where it is in none."""
        if self.is_in_transaction and not self.is_joined:
            self._local.to_forget.append(forget)

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Around a transaction of ours: what was done in it may be remembered elsewhere."""
        outer: list[Callable[[], object]] | None = getattr(self._local, "to_forget", None)
        if outer is None:
            self._local.to_forget = []
        try:
            yield
        except BaseException:
            for forget in self._local.to_forget:
                forget()
            raise
        finally:
            self._local.to_forget = outer

    @property
    def is_in_transaction(self) -> bool:
        """True if what this thread does here is part of a transaction, its own or the caller's."""
        return getattr(self._local, "connection", None) is not None or self.is_joined

    @property
    def is_joined(self) -> bool:
        """True if what this thread does here is part of the caller's transaction."""
        return self._caller is not None

    @property
    def _caller(self) -> Caller | None:
        return getattr(self._local, "caller", None)

    @property
    def joined_channel(self) -> str | None:
        """The channel on which a statement must announce its work; None outside of a caller's
        transaction, where it is announced after the commit."""
        return notify.work_channel(self.schema) if self.is_joined else None

    @property
    def is_beside(self) -> bool:
        """True where the caller has a transaction open that this thread's work is not part of."""
        if any(callers.all()):
            return True
        return bool(self.alias and point_on(self.alias).caller)

    def run_briefly(
        self, connection: Connection, transactions: Sequence[Sequence[Call]]
    ) -> list[list[Row]]:
        """As :meth:`Connection.run`, but wait no longer than :data:`LOCK_TIMEOUT` for a lock.

        Raises CannotJoin if that is not enough.
        """
        brief = self.call("wait_briefly", milliseconds=LOCK_TIMEOUT)
        try:
            rows = iter(connection.run(*([brief, *calls] for calls in transactions)))
        except psycopg.errors.LockNotAvailable:
            raise CannotJoin(
                "this is not part of the caller's transaction, and waits for a row that is held: "
                "by that transaction, most likely, which waits for this. Do it after the block, or "
                "in it with what holds the row"
            ) from None
        found = []
        for calls in transactions:
            next(rows)
            found += [next(rows) for _ in calls]
        return found


class HasAlias(Protocol):
    """A database that Django's settings may have a name for."""

    @property
    def alias(self) -> str | None:
        """That name, if they have."""


class TransactionPoints:
    """Where jobs are put here and now, whatever their database is."""

    def __init__(self) -> None:
        scope = callers.find()
        self._any = TransactionPoint.of(scope)
        self._on_aliases = open_points() if scope is None else {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TransactionPoints) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def of(self, database: HasAlias) -> TransactionPoint:
        """As :meth:`Joining.find_point`, then."""
        return self._on_aliases.get(database.alias or "", self._any)
