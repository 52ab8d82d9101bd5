"""Wait for results in an asyncio program, without blocking its event loop.

    assert await aget(result, timeout=10) == 4

Works with the results of any app. On ``pgjobs://`` one thread waits for all of them, over one
connection; elsewhere one for each of a few.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, ResultSet

from ..db.callers.base import callers
from ..printable import guarded
from ..scopes.scopes import Loan
from ..scopes.steady import monotonic
from ..scopes.threads import in_thread_with
from .consumer import ResultConsumer

logger = guarded(logging.getLogger(__name__))

#: Seconds for which the waiting thread stays when no program waits.
LINGER = 5.0


def aget(
    result: Any, timeout: float | None = None, propagate: bool = True
) -> Coroutine[Any, Any, Any]:
    """The value of a result, or of a group of results; as ``result.get()``.

    Raises the task's exception, unless ``propagate`` is false, and Celery's ``TimeoutError`` if the
    result does not arrive within ``timeout`` seconds.
    """
    # The transaction is found here: ``gather`` and others make a task of the rest.
    return _aget(result, timeout, propagate, _require_committed(result))


async def _aget(
    result: Any, timeout: float | None, propagate: bool, required: Callable[[], Any] | None
) -> Any:
    if required is not None:
        await required()
    try:
        return await asyncio.wait_for(_wait(result, propagate), timeout)
    except asyncio.TimeoutError:
        raise CeleryTimeoutError("The operation timed out.") from None


async def _wait(result: Any, propagate: bool) -> Any:
    await _until_ready(result)
    if isinstance(result, ResultSet):
        return [await _wait(each, propagate) for each in result.results]
    if result.ignored or (result._cache and result.parent is None):
        return result.get(propagate=propagate, disable_sync_subtasks=False)
    # The states of its parents may have to be read.
    # Nothing is lent for that: a task that gives up must not wait for the thread.
    get = functools.partial(result.get, propagate=propagate, disable_sync_subtasks=False)
    return await in_thread_with(None, get)


async def _until_ready(result: Any) -> None:
    if isinstance(result, ResultSet):
        await asyncio.gather(*map(_until_ready, result.results))
        return
    if not isinstance(result, AsyncResult) or result.ignored or result._cache:
        return  # it ran eagerly, or is known
    if not isinstance(getattr(result.backend, "result_consumer", None), ResultConsumer):
        return  # another backend, which is waited for in a thread
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def set_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    def tell(_: Any) -> None:
        try:
            loop.call_soon_threadsafe(set_ready)
        except RuntimeError:  # its loop has been closed
            logger.debug("no event loop waits for the result of %s any longer", result.id)

    waiter = _waiter(result.backend)
    waiter.add(result, tell)
    try:
        await ready
    finally:
        waiter.discard(result)


def _require_committed(result: Any) -> Callable[[], Any] | None:
    """Raise NotCommitted where waiting could never end: see ``results.uncommitted``.

    Returns a function to await for that, where only the event loop's own connection can tell.
    """
    one = result
    while isinstance(one, ResultSet):
        one = one.results[0] if one.results else None
    require = getattr(getattr(one, "backend", None), "require_committed", None)
    if require is None:
        return None
    require(result)
    scope = callers.find()
    if scope is None or scope.value is None or scope.value.can_execute:
        return None
    return functools.partial(in_thread_with, Loan(), functools.partial(require, result))


class Waiter:
    """The thread that waits for the results of a backend."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._count = 0
        self._thread: threading.Thread | None = None
        self._idle_since = 0.0

    def add(self, result: Any, tell: Callable[[Any], Any]) -> None:
        """Call ``tell``, in this thread, when the result arrives."""
        result.then(tell)
        with self._lock:
            self._count += 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="pgjobs-results", daemon=True
                )
                self._thread.start()

    def discard(self, result: Any) -> None:
        """End the wait for it."""
        self._backend.remove_pending_result(result)
        with self._lock:
            self._count -= 1
            self._idle_since = monotonic()

    def _run(self) -> None:
        while self._is_wanted():
            try:
                self._backend.result_consumer.drain_events(timeout=1)
            except TimeoutError:
                continue
            except Exception:
                logger.exception("waiting for results failed, trying again")
                time.sleep(1)

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._count or monotonic() < self._idle_since + LINGER:
                return True
            self._thread = None
            return False


@functools.cache
def _waiter(backend: Any) -> Waiter:
    return Waiter(backend)


def _forget_parent() -> None:
    """In a forked child: the thread is the parent's."""
    _waiter.cache_clear()


os.register_at_fork(after_in_child=_forget_parent)
