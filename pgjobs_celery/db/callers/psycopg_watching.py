"""Watch psycopg's connections, all of whose work goes through their method ``wait``.

Nothing else tells one transaction from the next: the server says only whether there is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import pq, sql

from .watching import Overriding, Pending, Watch, control_of

_OUTSIDE = pq.TransactionStatus.IDLE
_NO_PIPELINE = pq.PipelineStatus.OFF
_INSIDE = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
#: The work of psycopg that neither begins nor ends anything, by the names of its generators. Any
#: other, unless it is a statement whose text we see, may do both.
_HARMLESS = frozenset(
    {
        "_fetch_gen", "_sync_gen", "_communicate_gen", "_stream_fetchone_gen", "_read_gen",
        "_read_row_gen", "_end_copy_out_gen", "copy_to", "copy_end", "notifies", "_close_gen",
        "_scroll_gen", "_set_isolation_level_gen", "_set_read_only_gen", "_set_deferrable_gen",
    }
)  # fmt: skip
#: Those of a block, or a pipeline: the connection counts blocks.
_NESTING = frozenset({"_enter_gen", "_exit_gen"})


class PsycopgWatch(Watch):
    """Over a psycopg connection, asyncio's too."""

    def __init__(self, pending: Pending, connection: Any) -> None:
        super().__init__(pending)
        is_async = isinstance(connection, psycopg.AsyncConnection)
        self._work: _Work = (_AsyncWork if is_async else _Work).of(connection)
        self._work.add(self)

    def mark(self) -> Hashable:
        return self._work.mark()

    def close(self) -> None:
        self._work.remove(self)


class _Work(Overriding):
    """The statements that run over a connection."""

    # Ahead of which a statement can be run; a method of asyncio's cannot wait for one of ours.
    methods = {"commit": True, "rollback": False}

    def install(self) -> None:
        #: For each block that is open, and for what is outside of all, something that is replaced
        #: when it may have ended.
        self._tokens = [object() for _ in range(depth(self.target) + 1)]
        super().install()
        self._wait = self.target.wait
        self.override("wait", self.wait)

    def mark(self) -> Hashable:
        """Where we are; None outside of any transaction, where each statement is one."""
        connection = self.target
        level = depth(connection)
        is_outside = connection.pgconn.transaction_status == _OUTSIDE
        if not level and is_outside and connection.autocommit:
            return None
        return self._tokens[level]

    def wait(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        """As psycopg's."""
        is_harmless, status = _is_harmless(work), self.target.pgconn.transaction_status
        try:
            return self._wait(work, *args, **kwargs)
        finally:
            self._note(is_harmless, status)

    def _note(self, is_harmless: bool, before: pq.TransactionStatus) -> None:
        connection, tokens = self.target, self._tokens
        levels = depth(connection) + 1
        has_ended = connection.pgconn.transaction_status == _OUTSIDE and before in _INSIDE
        # In a pipeline the status comes late.
        has_ended |= levels < len(tokens) == 2 and connection.pgconn.pipeline_status != _NO_PIPELINE
        if has_ended or not is_harmless:
            tokens.clear()
        del tokens[levels:]
        tokens += [object() for _ in range(levels - len(tokens))]


class _AsyncWork(_Work):
    methods = {}

    async def wait(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        """As psycopg's."""
        is_harmless, status = _is_harmless(work), self.target.pgconn.transaction_status
        try:
            return await self._wait(work, *args, **kwargs)
        finally:
            self._note(is_harmless, status)


def depth(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> int:
    """How many ``transaction()`` blocks are open.

    psycopg counts them for its own use, and has no public name for it.
    """
    return getattr(connection, "_num_transactions", 0)


def _is_harmless(work: Any) -> bool:
    """True for work that begins and ends nothing, but for a block that the connection counts."""
    name = getattr(work, "__name__", "")
    if name in _HARMLESS or name in _NESTING:
        return True
    with suppress(Exception):  # whatever cannot be read may do anything
        given = inspect.getgeneratorlocals(work)
        return control_of(_text(given["query"] if "query" in given else given["statement"])) is None
    return False


def _text(query: Any) -> str:
    if isinstance(query, bytes):
        return query.decode(errors="replace")
    return query.as_string(None) if isinstance(query, sql.Composable) else str(query)
