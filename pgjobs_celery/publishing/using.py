"""Publish within the caller's own transaction.

with using(connection):
    user = create_user(...)
    welcome.delay(user_id=user.id)  # there exactly if the user is
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from ..db.callers import find_caller
from ..db.callers.base import Caller, callers
from ..db.callers.bridge import AsyncCaller
from ..db.database import Database
from ..errors import TransactionFailed
from ..scopes.scopes import Entered, Loan, Scope, whoever_runs
from ..scopes.threads import in_thread, in_thread_with
from .batch import Batch, batches
from .insertion import Insertion, put_job

T = TypeVar("T")


class Block(NamedTuple):
    """A block that was entered."""

    scope: Scope[Caller | None]
    #: Over an asyncio connection, what `delay()` has published in it.
    backlog: Backlog | None = None
    collecting: Scope[Batch] | None = None


class using:  # noqa: N801
    """Have what is published in the block be part of the caller's own transaction.

    Every task that is published inside, by whatever code, is inserted over ``connection``: it is
    there exactly if the transaction commits, and the commit wakes the workers. Nothing here commits
    or rolls back. ``using(None)`` publishes over our own connections, whatever is around.

    It holds for the thread or asyncio task that has entered the block, and for no other that is
    started in it. Raises the driver's own error where the transaction fails.

    For an asyncio connection it is ``async with``. Then ``delay()`` is written at the end of the
    block, or before the next ``await task.adelay()``: commit after the block, not in it.
    """

    def __init__(self, connection: Any) -> None:
        self._caller = None if connection is None else find_caller(connection)
        self._entered: Entered[Block] = Entered()

    def __enter__(self) -> using:
        self._entered.push(Block(callers.enter(self._caller)))
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        callers.leave(self._entered.pop().scope)
        _raise_cause(error)

    async def __aenter__(self) -> using:
        if not isinstance(self._caller, AsyncCaller):
            return self.__enter__()
        scope = callers.enter(self._caller)
        backlog = Backlog(self._caller)
        self._entered.push(Block(scope, backlog, batches.enter(backlog)))
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if not isinstance(self._caller, AsyncCaller):
            self.__exit__(kind, error, traceback)
            return
        block = self._entered.pop()
        try:
            if kind is None and block.backlog is not None:
                await block.backlog.write()
        except TransactionFailed as failed:
            _raise_cause(failed)
            raise
        finally:
            if block.backlog is not None:
                block.backlog.discard()
            if block.collecting is not None:
                batches.leave(block.collecting)
            callers.leave(block.scope)
            await self._caller.settle()
        _raise_cause(error)

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call a function that blocks, in a thread that takes part; for what is no publishing.

        >>> async with using(connection) as block:
        ...     await block.run(jobs(app).filter(tags=["mail"]).cancel)
        """
        block = self._entered.last()
        work = functools.partial(function, *args, **kwargs)
        return await in_thread(_in_order, block and block.backlog, work)


def publish(call: Callable[[], T]) -> Coroutine[Any, Any, T]:
    """``call()`` in a thread, where it takes part in what this is called in.

    That is decided here, and not where it is awaited: ``gather`` and others make tasks of it.
    """
    caller, batch = callers.find(), batches.find()
    if caller is None or caller.value is None:
        return in_thread_with(Loan(), call)
    if batch is None or isinstance(batch.value, Backlog):
        return _publish(call, Publishing(), Loan(), batch.value if batch else None)
    return in_thread_with(Loan(), call, waits=False)  # a bulk() collects it


async def _publish(
    call: Callable[[], T], published: Publishing, loan: Loan, backlog: Batch | None
) -> T:
    """Publish in a transaction.

    Who waits for it must hold nothing that the event loop may wait for itself. So it is written
    when the call is over, and has given kombu's producer back.
    """
    result = await in_thread_with(loan, functools.partial(published.collect, call), waits=False)
    await in_thread_with(loan, functools.partial(_in_order, backlog, published.flush))
    return result


def _in_order(backlog: Batch | None, call: Callable[[], T]) -> T:
    """``call()``, after what was published before it."""
    if isinstance(backlog, Backlog) and len(backlog) and backlog.is_due:
        backlog.flush()
    return call()


class Publishing(Batch):
    """What one call publishes."""

    def __init__(self) -> None:
        super().__init__(sys.maxsize, is_promised=False)

    def _watch(self, caller: Caller, database: Database) -> None:
        """Nothing: whoever awaits the call ends no transaction meanwhile."""

    def collect(self, call: Callable[[], T]) -> T:
        """``call()``, and nothing of it is written."""
        scope = batches.enter(self)
        try:
            return call()
        finally:
            batches.leave(scope)

    def flush(self) -> None:
        """Write it; a single job by itself, which saves a statement."""
        with self._lock:
            one = self._steps[0] if len(self) == 1 else None
            if one is None or not isinstance(one.step, Insertion):
                super().flush()
                return
            put_job(one.database, one.step)
            self.discard()


class Backlog(Batch):
    """What ``delay()`` has published on an event loop, where nothing may wait for a connection."""

    def __init__(self, caller: AsyncCaller) -> None:
        super().__init__(sys.maxsize)
        self._caller = caller
        self._began_at = caller.position()

    def takes(self, database: Database) -> bool:
        """True on the event loop, and in the savepoint that this began in."""
        return (
            whoever_runs() == self._owner
            and database.find_place().caller == self._caller
            and self._caller.position() == self._began_at
        )

    async def write(self) -> None:
        """Write what was collected, in the transaction in which it was published."""
        if len(self):
            self._check()
            await in_thread(self.flush)


def _raise_cause(error: BaseException | None) -> None:
    """Raise the driver's own error, as it was before kombu was to be kept from trying again."""
    if isinstance(error, TransactionFailed) and error.__cause__ is not None:
        raise error.__cause__
