"""The threads that an event loop has for calls that block: they know the running task, too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from ..publishing.carried import Carried

P = ParamSpec("P")
T = TypeVar("T")


class Executor(ThreadPoolExecutor):
    """asyncio's default executor, of ``asyncio.to_thread``, for loops that run tasks.

    Celery keeps the running task by thread: ``await asyncio.to_thread(self.update_state, ...)``
    would not know which it is.
    """

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="asyncio")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a thread call it as a part of the task that runs here."""
        return super().submit(Carried().around(partial(fn, *args, **kwargs)))
