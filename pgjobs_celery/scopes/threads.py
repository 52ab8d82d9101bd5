"""Run blocking calls in a thread, for an asyncio program."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from .greenlets import patched_by
from .scopes import Loan

T = TypeVar("T")

#: How many tasks a process publishes at a time. More gains little: building messages is Python.
PUBLISHERS = 4
#: How many write into transactions at a time. Each needs its own thread: one may wait for a lock
#: that another transaction holds, which needs a thread to end.
BORROWERS = 1000


async def in_thread(call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """``call(*args, **kwargs)`` in another thread, with all scoped values of this place."""
    return await in_thread_with(Loan(), functools.partial(call, *args, **kwargs))


async def in_thread_with(loan: Loan | None, call: Callable[[], T], *, waits: bool = True) -> T:
    """``call()`` in another thread, with the values that ``loan`` lends.

    If this is cancelled, a thread that uses a loan stops using it, and has ended before the
    waiting task goes on. ``waits``: false for a call that sends nothing over the loan.
    """
    context = contextvars.copy_context()
    if patched_by() is not None:
        # A thread would be a greenlet of the thread that runs this loop: it could run only
        # while the loop does, and whoever waits for its end would wait for ever.
        return context.run(_with_loan, loan, call) if loan else context.run(call)
    if not loan:
        return await asyncio.wrap_future(_publishers().submit(context.run, call))
    executor = _borrowers() if waits else _publishers()
    future = executor.submit(context.run, _with_loan, loan, call)
    waiting = asyncio.wrap_future(future)
    try:
        await asyncio.wait([waiting])
    except asyncio.CancelledError:
        loan.recall()
        future.cancel()
        while not waiting.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([waiting])
        waiting.cancelled() or waiting.exception()  # which no caller must see
        raise
    return waiting.result()


def _with_loan(loan: Loan, call: Callable[[], T]) -> T:
    with loan.used():
        return call()


@functools.cache
def _publishers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(PUBLISHERS, thread_name_prefix="pgjobs-publish")


@functools.cache
def _borrowers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(BORROWERS, thread_name_prefix="pgjobs-join")


def _forget_parent() -> None:
    """In a forked child: the threads are the parent's."""
    _publishers.cache_clear()
    _borrowers.cache_clear()


os.register_at_fork(after_in_child=_forget_parent)
