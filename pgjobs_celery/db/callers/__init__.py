"""Connections of the caller's own, in whose transactions jobs are put: a module for each kind."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from .base import Caller
from .django import caller_of, is_django
from .psycopg import PsycopgCaller


def find_caller(connection: Any) -> Caller:
    """The connection as we use it."""
    if isinstance(connection, Connection):
        return PsycopgCaller(connection)
    if is_django(connection):
        return caller_of(connection)
    raise TypeError(connection)
