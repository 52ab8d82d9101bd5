"""Publish many tasks in few statements.

with bulk():
    for user in users:
        welcome.delay(user.id)
"""

from __future__ import annotations

from ..scopes.scopes import Entered, Scope
from ..scopes.threads import in_thread
from .batch import SIZE, Batch, batches, check_size
from .repeated import shorten_plain_tasks


class bulk:  # noqa: N801
    """Collect every task that is published in the block, and write them in multi-row statements.

        with bulk():
            for user in users:
                welcome.delay(user.id)

    Their order is kept, and their ids are known at once. They are there when the block ends: all of
    them or, where it raises, none but those written before, for a block of more than ``size`` jobs,
    or 16 MiB of arguments, is written on the way. Inside of :func:`using` they are part of the
    caller's transaction. ``as`` gives the :class:`Batch`, whose ``flush()`` writes at once.

    Also as ``async with``, where what is collected is written without blocking the event loop.
    """

    def __init__(self, size: int = SIZE) -> None:
        check_size(size)
        self._size = size
        self._entered: Entered[tuple[Scope[Batch], Batch]] = Entered()

    def __enter__(self) -> Batch:
        shorten_plain_tasks()
        batch = Batch(self._size)
        self._entered.push((batches.enter(batch), batch))
        return batch

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        batch = self._leave()
        if kind is None:
            batch.hand_over()
        else:
            batch.discard()

    async def __aenter__(self) -> Batch:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        batch = self._leave()
        if kind is None:
            await in_thread(batch.hand_over)
        else:
            batch.discard()

    def _leave(self) -> Batch:
        scope, batch = self._entered.pop()
        batches.leave(scope)
        return batch
