"""Connections that belong to an event loop, for code that knows nothing of it.

Publishing is Celery's, and no coroutine. It runs in a thread, to which the loop has lent the
connection, and has each statement done by the loop, for which it waits.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from ...errors import CannotJoin, InvalidOption
from ...scopes.greenlets import patched_by
from ..connection import Call, Row
from .base import Caller, callers


class AsyncCaller(Caller):
    """A connection that only its event loop may use."""

    def __init__(self) -> None:
        if (patched := patched_by()) is not None:
            # The thread that publishes would be a greenlet of the loop's own, and wait for ever.
            raise CannotJoin(
                f"an asyncio connection cannot be taken part in where {patched} has put greenlets "
                "in the place of threads: use psycopg.connect() or a Session of SQLAlchemy's, or "
                "another pool"
            )
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidOption(
                "using() was given an asyncio connection where no event loop runs: enter the block "
                "in a coroutine"
            ) from None
        # A session does one thing at a time, and says so.
        self._turn = asyncio.Lock()

    def execute(self, call: Call) -> list[Row]:
        scope = callers.find()
        if scope is None or scope.loan is None:
            raise CannotJoin(
                "this has to wait for an asyncio connection, which cannot be done here, on its "
                "event loop: `await task.adelay(...)`, or publish in a block of its own, "
                "`async with using(connection)`, also within a savepoint; for whatever is no "
                "publishing: `await block.run(function, ...)`, with "
                "`async with using(connection) as block`"
            )
        loan = scope.loan

        async def execute() -> list[Row]:
            async with self._turn:
                loan.check()
                return await self.aexecute(call)

        return loan.have_done(self._loop, execute)

    @property
    def can_execute(self) -> bool:
        scope = callers.find()
        return scope is not None and scope.loan is not None

    def own(self, *, may_nest: bool = False) -> AbstractContextManager[None]:
        raise InvalidOption(
            "transaction() was given an asyncio connection: `async with self.transaction(...)`"
        )

    @abstractmethod
    def aown(self, *, may_nest: bool = False) -> AbstractAsyncContextManager[None]:
        """As :meth:`own`, on the event loop."""

    async def aprepare(self) -> None:
        """As :meth:`prepare`, on the event loop."""

    async def settle(self) -> None:
        """Wait for the statement that is being run."""
        async with self._turn:
            pass

    @abstractmethod
    async def aexecute(self, call: Call) -> list[Row]:
        """As :meth:`execute`, on the event loop."""
