"""Carry the running task to another thread or greenlet that acts for it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from celery import _state, current_task

T = TypeVar("T")


class Carried:
    """The running Celery task and its request, as they are here.

    Celery keeps both in stacks by thread and greenlet: elsewhere ``self.request`` would be empty,
    and what is published would have no parent.
    """

    def __init__(self) -> None:
        self._task: Any = current_task._get_current_object() if current_task else None
        self._request = None if self._task is None else self._task.request_stack.top

    @contextmanager
    def here(self) -> Iterator[None]:
        """In this block they are the running ones, whatever thread this is."""
        if self._request is None:
            yield
            return
        _state._task_stack.push(self._task)
        self._task.request_stack.push(self._request)
        try:
            yield
        finally:
            self._task.request_stack.pop()
            _state._task_stack.pop()

    def around(self, call: Callable[[], T]) -> Callable[[], T]:
        """The call, in such a block."""
        return call if self._request is None else functools.partial(self._call, call)

    def _call(self, call: Callable[[], T]) -> T:
        with self.here():
            return call()
