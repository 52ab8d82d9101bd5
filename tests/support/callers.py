"""Every kind of connection that ``using()`` takes, as one: what differs is only how it is spelt.

Tests are written once, as coroutines. Connections that are none of asyncio's block the loop, which
has nothing else to do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from celery import Celery
from psycopg.rows import dict_row

from pgjobs_celery import PgTask, adelay, using

sqlalchemy = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")
aio = pytest.importorskip("sqlalchemy.ext.asyncio")


class Kind(ABC):
    """A connection of the caller's, in a transaction unless it is told to be otherwise."""

    #: What ``using()`` is given.
    connection: Any
    is_async = False

    @abstractmethod
    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement of the caller's own; its rows."""

    @abstractmethod
    async def commit(self) -> None: ...

    @abstractmethod
    async def rollback(self) -> None: ...

    @abstractmethod
    def savepoint(self) -> Any:
        """An asynchronous context manager that releases it, or rolls back to it."""

    def using(self) -> Any:
        """The block, as it is entered for this kind."""
        return using(self.connection)

    async def publish(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """``delay()``, as this kind has it."""
        return await adelay(task, *args, **kwargs) if self.is_async else task.delay(*args, **kwargs)

    async def run(self, block: Any, function: Any, *args: Any) -> Any:
        """Whatever else would block."""
        return await block.run(function, *args) if self.is_async else function(*args)


class Psycopg(Kind):
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, driver: str) -> AsyncIterator[Kind]:
        # Neither its rows nor its cursors are what they are by default.
        with psycopg.connect(
            url, row_factory=dict_row, cursor_factory=psycopg.ClientCursor
        ) as connection:
            yield cls(connection)
            connection.rollback()

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(sql)  # type: ignore[arg-type]
        return [tuple(row.values()) for row in cursor.fetchall()] if cursor.description else []

    async def commit(self) -> None:
        self.connection.commit()

    async def rollback(self) -> None:
        self.connection.rollback()

    def savepoint(self) -> Any:
        return _awaitable(self.connection.transaction())


class AsyncPsycopg(Kind):
    is_async = True

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, driver: str) -> AsyncIterator[Kind]:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            yield cls(connection)
            await connection.rollback()

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = await self.connection.execute(sql)  # type: ignore[arg-type]
        return await cursor.fetchall() if cursor.description else []

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()

    def savepoint(self) -> Any:
        return self.connection.transaction()


class Sqlalchemy(Kind):
    """A Connection or a Session: they have the same methods, but for one."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, driver: str) -> AsyncIterator[Kind]:
        engine = _engine(url, driver)
        with engine.connect() if driver.endswith("connection") else orm.Session(engine) as opened:
            yield cls(opened)
            opened.rollback()

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        result = self.connection.execute(sqlalchemy.text(sql))
        return [tuple(row) for row in result] if result.returns_rows else []

    async def commit(self) -> None:
        self.connection.commit()

    async def rollback(self) -> None:
        self.connection.rollback()

    def savepoint(self) -> Any:
        return _awaitable(self.connection.begin_nested())


class AsyncSqlalchemy(Kind):
    is_async = True

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, driver: str) -> AsyncIterator[Kind]:
        engine = _async_engine(url, driver)
        is_connection = driver.endswith("connection")
        async with engine.connect() if is_connection else aio.AsyncSession(engine) as opened:
            yield cls(opened)
            await opened.rollback()

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        result = await self.connection.execute(sqlalchemy.text(sql))
        return [tuple(row) for row in result] if result.returns_rows else []

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()

    def savepoint(self) -> Any:
        return self.connection.begin_nested()


#: Each kind by its name: how it is opened, and what it is.
KINDS: dict[str, tuple[type[Any], str]] = {
    "psycopg": (Psycopg, ""),
    "psycopg-async": (AsyncPsycopg, ""),
    **{
        f"sqlalchemy-{driver}-{what}": (Sqlalchemy, f"{driver} {what}")
        for driver in ("psycopg", "psycopg2")
        for what in ("connection", "session")
    },
    **{
        f"sqlalchemy-async-{driver}-{what}": (AsyncSqlalchemy, f"{driver} {what}")
        for driver in ("psycopg", "asyncpg")
        for what in ("connection", "session")
    },
}


#: One for each driver and way to it.
DRIVERS = (
    "psycopg",
    "psycopg-async",
    "sqlalchemy-psycopg-session",
    "sqlalchemy-psycopg2-connection",
    "sqlalchemy-async-psycopg-connection",
    "sqlalchemy-async-asyncpg-session",
)


def open_kind(name: str, url: str) -> Any:
    """An asynchronous context manager: a connection of that kind to the database of ``url``."""
    kind, driver = KINDS[name]
    return kind.open(urlunsplit(urlsplit(url)._replace(scheme="postgresql")), driver)


def sqlalchemy_url(url: str, driver: str) -> str:
    """The URL of a database as SQLAlchemy has it."""
    return urlunsplit(urlsplit(url)._replace(scheme=f"postgresql+{driver}"))


@cache
def _engine(url: str, driver: str) -> Any:
    return sqlalchemy.create_engine(
        sqlalchemy_url(url, driver.partition(" ")[0]), poolclass=sqlalchemy.NullPool
    )


@cache
def _async_engine(url: str, driver: str) -> Any:
    return aio.create_async_engine(
        sqlalchemy_url(url, driver.partition(" ")[0]), poolclass=sqlalchemy.NullPool
    )


@asynccontextmanager
async def _awaitable(manager: Any) -> AsyncIterator[Any]:
    with manager as entered:
        yield entered


def with_tasks(app: Celery, **options: Any) -> Celery:
    """The app with a plain task, ``add``, and a PgTask with these options, ``once``."""

    @app.task(name="add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="once", shared=False, base=PgTask, **options)
    def once(x: int) -> None: ...

    return app
