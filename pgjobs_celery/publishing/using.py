"""Publish within the caller's own transaction.

with using(connection):
    user = create_user(...)
    welcome.delay(user_id=user.id)  # there exactly if the user is
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ..db.callers import find_caller
from ..db.callers.base import Caller, callers
from ..db.callers.bridge import AsyncCaller
from ..errors import TransactionFailed
from ..scopes.scopes import Entered, Scope
from ..scopes.threads import in_thread
from .aio import Backlog, in_order
from .batch import Batch, batches

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

    @property
    def caller(self) -> Caller | None:
        """The connection as we use it; None for ``using(None)``."""
        return self._caller

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
        """Call a function that blocks, in a thread that takes part; for calls that publish nothing.

        >>> async with using(connection) as block:
        ...     await block.run(jobs(app).filter(tags=["mail"]).cancel)
        """
        block = self._entered.last()
        work = functools.partial(function, *args, **kwargs)
        return await in_thread(in_order, block.backlog if block else None, work)


def _raise_cause(error: BaseException | None) -> None:
    """Raise the driver's own error, which was hidden from kombu, lest it try again."""
    if isinstance(error, TransactionFailed) and error.__cause__ is not None:
        raise error.__cause__
