"""Publish within the caller's own transaction.

with using(connection):
    user = create_user(...)
    welcome.delay(user_id=user.id)  # there exactly if the user is
"""

from __future__ import annotations

from typing import Any

from .db.callers import find_caller
from .db.callers.base import callers
from .errors import TransactionFailed


class using:  # noqa: N801
    """Have what is published in the block be part of the caller's own transaction.

    Every task that is published inside, by whatever code, is inserted over ``connection``: it is
    there exactly if the transaction commits, and the commit wakes the workers. Nothing here commits
    or rolls back. ``using(None)`` publishes over our own connections, whatever is around.

    It holds for the thread or asyncio task that has entered the block, and for no other that is
    started in it. Raises the driver's own error where the transaction fails.
    """

    def __init__(self, connection: Any) -> None:
        self._caller = None if connection is None else find_caller(connection)

    def __enter__(self) -> None:
        self._scope = callers.enter(self._caller)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        callers.leave(self._scope)
        if isinstance(error, TransactionFailed) and error.__cause__ is not None:
            raise error.__cause__
