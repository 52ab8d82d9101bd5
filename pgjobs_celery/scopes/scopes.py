"""Values that hold within a block of code, only for the thread or asyncio task that entered it.

A context variable alone goes further: asyncio copies it into every task that is started in the
block, where it outlives the block.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from ..errors import CannotJoin

T = TypeVar("T")

#: Seconds after which a thread checks that the event loop that it waits for is still open.
CLOSED_AFTER = 1.0


class Scope(Generic[T]):
    """A value that holds until the scope is closed, for the task or thread that opened it."""

    def __init__(
        self, value: T, outer: Scope[T] | None = None, *, loan: Loan | None = None
    ) -> None:
        self.value = value
        #: The scope that counts when this one is closed.
        self.outer = outer
        #: The loan that brought the value here, if another scope holds it.
        self.loan = loan
        self.owner = whoever_runs()
        #: False when its block has ended.
        self.is_open = True

    def close(self) -> None:
        """Close the scope. Tasks started inside it may outlive it and must not see the value."""
        if self.is_open:
            self.is_open = False
            del self.value


class Scoped(Generic[T]):
    """A kind of value that scopes hold: the scope entered last counts."""

    def __init__(self, name: str) -> None:
        self._current: ContextVar[Scope[T] | None] = ContextVar(name, default=None)
        _kinds.append(self)

    def enter(self, value: T) -> Scope[T]:
        """Make the value hold from now on, for the running task or thread."""
        outer = self._current.get()
        while outer is not None and not outer.is_open:
            outer = outer.outer  # was left elsewhere, and must not be kept
        scope = Scope(value, outer)
        self._current.set(scope)
        return scope

    def leave(self, scope: Scope[T]) -> None:
        """End the scope's value; possible from another context than the one it was entered in."""
        scope.close()
        if self._current.get() is scope:
            self._current.set(scope.outer)

    def suspend(self, scope: Scope[T]) -> None:
        """The scope, which was entered last, does not count until it is resumed."""
        self._current.set(scope.outer)

    def resume(self, scope: Scope[T]) -> None:
        """The scope counts again, before those entered meanwhile."""
        scope.outer = self._current.get()
        self._current.set(scope)

    def find(self) -> Scope[T] | None:
        """The scope whose value holds here; None outside of any.

        Raises CannotJoin if it was lent and the loan has ended: work meant as part of a block must
        not be done outside of it.
        """
        scope = self._current.get()
        while scope is not None and not scope.is_open:
            scope = scope.outer
        if scope is None or scope.owner != whoever_runs():
            return None
        if scope.loan is not None:
            scope.loan.check()
        return scope

    def all(self) -> Iterator[T]:
        """The values of all scopes around what runs here, the innermost first."""
        scope = self._current.get()
        while scope is not None:
            if scope.is_open and scope.owner == whoever_runs():
                yield scope.value
            scope = scope.outer

    @contextmanager
    def borrow(self, value: T, loan: Loan) -> Iterator[None]:
        """In this block, in another thread, the value holds for as long as the loan does."""
        scope = Scope(value, loan=loan)
        self._current.set(scope)
        try:
            yield
        finally:
            scope.close()
            self._current.set(None)


class Entered(Generic[T]):
    """The values of the blocks that an object was entered for, also by several tasks at a time."""

    def __init__(self) -> None:
        self._kept: dict[object, list[T]] = {}

    def push(self, value: T) -> None:
        """The running task or thread has entered a block."""
        self._kept.setdefault(whoever_runs(), []).append(value)

    def last(self) -> T | None:
        """The value of the last block of the running task or thread; else of another's."""
        owner = self._owner()
        return None if owner is None else self._kept[owner][-1]

    def pop(self) -> T:
        """The same, removed: its block ends."""
        owner = self._owner()
        value = self._kept[owner].pop()
        if not self._kept[owner]:
            del self._kept[owner]
        return value

    def _owner(self) -> object:
        owner = whoever_runs()
        # A generator may be closed by another thread or task than has begun it.
        return owner if owner in self._kept else next(reversed(list(self._kept)), None)


#: All kinds of scoped values.
_kinds: list[Scoped[Any]] = []


class Loan:
    """All scoped values of the place where this is made, for a thread that is waited for there.

    It ends when any of the lending blocks ends.
    """

    def __init__(self) -> None:
        found = [(kind, kind.find()) for kind in _kinds]
        self._lent = [(kind, scope) for kind, scope in found if scope is not None]
        self._is_recalled = False
        self._running: set[asyncio.Task[Any]] = set()

    def __bool__(self) -> bool:
        """False where nothing holds that could be lent."""
        return bool(self._lent)

    def check(self) -> None:
        """Raise CannotJoin if it has ended."""
        if self._is_recalled:
            # Not an error: the work must stop, and no caller is told.
            raise asyncio.CancelledError
        if not all(scope.is_open for _, scope in self._lent):
            raise CannotJoin(
                "the block that this was to be part of has ended: await what is published before"
            )

    @contextmanager
    def used(self) -> Iterator[None]:
        """In this block, in the thread, what was lent holds."""
        self.check()
        with ExitStack() as stack:
            for kind, scope in self._lent:
                stack.enter_context(kind.borrow(scope.value, self))
            yield

    def recall(self) -> None:
        """Stop the thread's use of the loan, because its caller no longer waits. Runs on the loop.

        The loop's running work for it is cancelled.
        """
        self._is_recalled = True
        for task in self._running:
            task.cancel()

    def have_done(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """In the thread: run ``work`` on the event loop, and wait for it."""

        async def do() -> T:
            # Nothing comes between: a recall happens on this loop, too.
            self.check()
            task = asyncio.current_task()
            assert task is not None
            self._running.add(task)
            try:
                return await work()
            finally:
                self._running.discard(task)

        future = asyncio.run_coroutine_threadsafe(do(), loop)
        while not future.done():
            wait([future], CLOSED_AFTER)
            if loop.is_closed() and not future.done():
                raise CannotJoin("the event loop was closed before this was written")
        try:
            return future.result()
        except CancelledError:
            raise asyncio.CancelledError from None


def whoever_runs() -> object:
    """The asyncio task that runs here or, where none does, the thread or greenlet.

    And the process: a forked child has the thread of its parent.
    """
    # Asked for first: without a loop the task is an exception, and this runs for every publish.
    loop = asyncio._get_running_loop()
    task = None if loop is None else asyncio.current_task(loop)
    return os.getpid(), task or threading.get_ident()
