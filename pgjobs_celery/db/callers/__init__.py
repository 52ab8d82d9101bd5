"""Connections of the caller's own, in whose transactions jobs are put: a module for each kind."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from psycopg import AsyncConnection, Connection

from ...errors import InvalidOption
from .base import Caller
from .django import caller_of, is_django
from .psycopg import AsyncPsycopgCaller, PsycopgCaller

_FROM_SQLALCHEMY = "use it through SQLAlchemy, or connect with psycopg 3"
#: Things that are mistaken for a connection: a module and a word in the class's name.
_MISTAKEN = (
    ("sqlalchemy", "Engine", "it has no transaction of its own: pass one of its connections"),
    ("sqlalchemy", "sessionmaker", "it makes sessions: pass one of them"),
    ("psycopg_pool", "Pool", "it has no transaction of its own: pass one of its connections"),
    ("asyncpg", "Pool", f"it has no transaction of its own; {_FROM_SQLALCHEMY}"),
    ("psycopg", "Cursor", "pass its connection"),
    ("psycopg2", "onnection", f"psycopg2 by itself is not supported: {_FROM_SQLALCHEMY}"),
    ("asyncpg", "onnection", f"asyncpg by itself is not supported: {_FROM_SQLALCHEMY}"),
)


def find_caller(connection: Any) -> Caller:
    """The connection as we use it. Raises InvalidOption for what is none, or closed."""
    if isinstance(connection, Connection):
        return PsycopgCaller(connection)
    if is_django(connection):
        if isinstance(connection, str) and ("://" in connection or "=" in connection):
            # Not shown: it may have a password.
            raise InvalidOption(
                "using() was given a string that is not an alias of one of Django's databases: if "
                "it says where a database is, connect there and pass the connection"
            )
        return caller_of(connection)
    if isinstance(connection, AsyncConnection):
        return AsyncPsycopgCaller(connection)
    if "sqlalchemy" in sys.modules:
        from .sqlalchemy import find_sqlalchemy_caller  # only where it is used

        if (caller := find_sqlalchemy_caller(connection)) is not None:
            return caller
    if "sqlalchemy.ext.asyncio" in sys.modules:  # which is not there without greenlet
        from .sqlalchemy_async import find_async_caller

        if (caller := find_async_caller(connection)) is not None:
            return caller
    raise _refusal(connection)


def _refusal(connection: Any) -> InvalidOption:
    kind = type(connection)
    module, name = kind.__module__, kind.__qualname__
    root = module.partition(".")[0]
    if inspect.isawaitable(connection):
        remedy = "await it first"
    else:
        remedy = next(
            (why for owner, word, why in _MISTAKEN if owner == root and word in name),
            "it takes a connection of psycopg 3, a connection or session of SQLAlchemy, or the "
            "alias of one of Django's databases",
        )
    return InvalidOption(f"using() was given {_article(f'{module}.{name}')}: {remedy}")


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
