"""What holds within a block of code, for the thread or asyncio task that has entered it, and for
nobody else.

A context variable alone goes further: asyncio copies it into every task that is started in the
block, where it goes on after the block's end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: All kinds of values that scopes hold.
_kinds: list[Scoped[Any]] = []


class Scope(Generic[T]):
    """A value that holds from now until the scope is closed, for who has opened it."""

    def __init__(self, value: T, outer: Scope[T] | None = None) -> None:
        self.value = value
        #: What holds when this is closed.
        self.outer = outer
        #: Who waits for whoever has opened this, and has lent it the value.
        self.lender: Scope[T] | None = None
        self.owner = whoever_runs()
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """False when its block has ended, or that of the scope that it was lent from."""
        return not self._is_closed and (self.lender is None or self.lender.is_open)

    def close(self) -> None:
        """Its block has ended."""
        self._is_closed = True


class Scoped(Generic[T]):
    """A kind of value that scopes hold: what is entered last counts."""

    def __init__(self, name: str) -> None:
        self._current: ContextVar[Scope[T] | None] = ContextVar(name, default=None)
        _kinds.append(self)

    def enter(self, value: T) -> Scope[T]:
        """Have the value hold from now on, for whoever runs."""
        scope = Scope(value, self._current.get())
        self._current.set(scope)
        return scope

    def leave(self, scope: Scope[T]) -> None:
        """The scope's value holds no more; also where this is not the context it was entered in."""
        scope.close()
        if self._current.get() is scope:
            self._current.set(scope.outer)

    def find(self) -> Scope[T] | None:
        """The scope whose value holds here; None outside of any."""
        scope = self._current.get()
        while scope is not None and not scope.is_open:
            scope = scope.outer
        return scope if scope is not None and scope.owner == whoever_runs() else None

    @contextmanager
    def borrow(self, lender: Scope[T] | None) -> Iterator[None]:
        """In this block, in another thread that the lender's owner waits for, its value holds."""
        if lender is None:
            yield
            return
        scope = Scope(lender.value)
        scope.lender = lender
        self._current.set(scope)
        try:
            yield
        finally:
            scope.close()
            self._current.set(None)


def lend() -> Callable[[], AbstractContextManager[None]]:
    """All that holds here, as a block for another thread that whoever runs here waits for."""
    lenders = [(kind, kind.find()) for kind in _kinds]

    @contextmanager
    def borrowed() -> Iterator[None]:
        with ExitStack() as stack:
            for kind, lender in lenders:
                stack.enter_context(kind.borrow(lender))
            yield

    return borrowed


def whoever_runs() -> object:
    """The asyncio task that runs here or, where none does, the thread or greenlet."""
    # Asked for first: without a loop the task is an exception, and this runs for every publish.
    loop = asyncio._get_running_loop()
    task = None if loop is None else asyncio.current_task(loop)
    return task or threading.get_ident()
