"""psycopg connections of the caller's own."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ..connection import Call, Row
from .base import Caller, plain


class PsycopgCaller(Caller):
    """A psycopg connection, whatever its rows and cursors are."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, call: Call) -> list[Row]:
        with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            # Ours, and not any string's: psycopg wants a literal.
            cursor.execute(call.prepared.text, plain(call.given))  # type: ignore[arg-type,call-overload,unused-ignore]
            return cursor.fetchall() if cursor.description else []

    def position(self) -> Hashable:
        # psycopg counts the blocks for its own use; nobody else can say.
        return getattr(self._connection, "_num_transactions", 0)
