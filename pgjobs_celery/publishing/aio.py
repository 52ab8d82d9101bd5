"""Publish in an asyncio program, without blocking its event loop.

    result = await adelay(add, 2, 2)

Works with the tasks of any app. Celery's code runs in a thread, of which there are a few.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..db.callers.base import Caller, callers
from ..db.callers.bridge import AsyncCaller
from ..db.database import Database
from ..scopes.scopes import Loan, whoever_runs
from ..scopes.threads import in_thread, in_thread_with
from .admission import admit
from .batch import Batch, batches
from .carried import Carried
from .insertion import Insertion, insert

T = TypeVar("T")


def adelay(task: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
    """``task.delay(*args, **kwargs)``, for a task or any signature; to be awaited for its result.

    Raises what ``delay`` raises. Within :func:`~pgjobs_celery.using` it takes part if it is called
    there, also where ``asyncio.gather`` or a task awaits it, and must be awaited before its end.
    """
    return publish(functools.partial(task.delay, *args, **kwargs))


def aapply_async(task: Any, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
    """``task.apply_async(args, kwargs, **options)``, as :func:`adelay`.

    Raises what ``apply_async`` raises.
    """
    return publish(functools.partial(task.apply_async, *args, **options))


def publish(call: Callable[[], T]) -> Coroutine[Any, Any, T]:
    """``call()`` in a thread, where it takes part in what this is called in.

    That is decided here, and not where it is awaited: ``gather`` and others make tasks of it.
    """
    call = Carried().around(call)
    caller, batch = callers.find(), batches.find()
    if caller is None or caller.value is None:
        return in_thread_with(Loan(), call)
    if batch is None or isinstance(batch.value, Backlog):
        return _publish(call, Publishing(), Loan(), batch.value if batch else None)
    return in_thread_with(Loan(), call, waits=False)  # a bulk() collects it


async def _publish(
    call: Callable[[], T], published: Publishing, loan: Loan, backlog: Batch | None
) -> T:
    """Publish in a transaction.

    A waiting thread must hold nothing that the event loop may wait for itself. So it is written
    when the call is over, and has given kombu's producer back.
    """
    result = await in_thread_with(loan, functools.partial(published.collect, call), waits=False)
    await in_thread_with(loan, functools.partial(in_order, backlog, published.flush))
    return result


def in_order(backlog: Batch | None, call: Callable[[], T]) -> T:
    """Flush what was published earlier, then ``call()``."""
    if isinstance(backlog, Backlog) and len(backlog) and backlog.is_due:
        backlog.flush()
    return call()


class Publishing(Batch):
    """The jobs that one call publishes."""

    def __init__(self) -> None:
        super().__init__(sys.maxsize, is_promised=False)

    def _watch(self, caller: Caller, database: Database) -> None:
        """Nothing: a task that awaits the call ends no transaction meanwhile."""

    def collect(self, call: Callable[[], T]) -> T:
        """Collect what ``call()`` publishes; nothing of it is written."""
        scope = batches.enter(self)
        try:
            return call()
        finally:
            batches.leave(scope)

    def flush(self) -> None:
        """Write it; a single job by itself, which saves a statement."""
        with self._lock:
            one = self._steps[0] if len(self) == 1 else None
            if one is None or not isinstance(one.step, Insertion):
                super().flush()
                return
            admit(one.database, [one.step])
            insert(one.database, one.step)
            self.discard()


class Backlog(Batch):
    """Jobs that ``delay()`` publishes on an event loop, where nothing may wait for a connection."""

    def __init__(self, caller: AsyncCaller) -> None:
        super().__init__(sys.maxsize)
        self._caller = caller
        self._began_at = caller.position()

    def takes(self, database: Database) -> bool:
        """True on the event loop, and in the savepoint that this began in."""
        return (
            whoever_runs() == self._owner
            and database.find_point().caller == self._caller
            and self._caller.position() == self._began_at
        )

    async def write(self) -> None:
        """Write what was collected, in the transaction in which it was published."""
        if len(self):
            self._check()
            await in_thread(self.flush)
