"""SQLAlchemy's connections and sessions for asyncio."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session

from ...errors import InvalidOption
from ..connection import Call, Row
from .base import Caller
from .bridge import AsyncCaller
from .sqlalchemy import SqlalchemyCaller
from .watching import Pending, Watch


def find_async_caller(connection: Any) -> Caller | None:
    """The connection or session as we use it; None for anything else."""
    if isinstance(connection, async_scoped_session):
        connection = connection()  # that of who calls
    if isinstance(connection, AsyncSession):
        return AsyncSqlalchemyCaller(connection, connection.sync_session)
    if not isinstance(connection, AsyncConnection):
        return None
    if connection.sync_connection is None:
        raise InvalidOption(
            "using() was given an AsyncConnection that has not begun, or is closed: `async with "
            "engine.connect() as connection`"
        )
    return AsyncSqlalchemyCaller(connection, connection.sync_connection)


class AsyncSqlalchemyCaller(AsyncCaller):
    """An AsyncConnection or AsyncSession."""

    def __init__(self, source: AsyncConnection | AsyncSession, inner: Connection | Session) -> None:
        super().__init__()
        self._source = source
        self._inner = SqlalchemyCaller(inner, is_async=True)

    @property
    def identity(self) -> object:
        return self._inner.identity

    def address(self) -> Hashable:
        return self._inner.address()

    async def aexecute(self, call: Call) -> list[Row]:
        return await self._source.run_sync(lambda _: self._inner.execute(call))

    @asynccontextmanager
    async def aown(self, *, may_nest: bool = False) -> AsyncIterator[None]:
        owned = self._inner.own(may_nest=may_nest)
        await self._run(owned.__enter__)
        try:
            yield
        except BaseException:
            await self._run(owned.__exit__, *sys.exc_info())
            raise
        await self._run(owned.__exit__, None, None, None)

    async def aprepare(self) -> None:
        await self._run(self._inner.prepare)

    async def _run(self, function: Callable[..., Any], *args: Any) -> None:
        await self._source.run_sync(lambda _: function(*args))

    def position(self) -> Hashable:
        return self._inner.position()

    def watch(self, pending: Pending) -> Watch:
        return self._inner.watch(pending)
