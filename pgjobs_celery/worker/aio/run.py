"""One task on the event loop: Celery's tracer in a greenlet, its coroutine driven by the loop.

The tracer is synchronous, and Celery knows the running task by thread and greenlet. So each task
has a greenlet, in which its coroutine is stepped as well; what the coroutine awaits is handed to
the asyncio task that stands behind the greenlet, and what comes of it is handed back. SQLAlchemy
bridges the other way round by the same means (``sqlalchemy.util.concurrency``).
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Protocol

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import SoftTimeLimitExceeded
from greenlet import GreenletExit, getcurrent, greenlet

from ...printable import guarded
from ...publishing.carried import Carried
from ...tasks.coroutines import Driver, report_forgotten, uncancel
from ..losses import raised

logger = guarded(logging.getLogger(__name__))

#: How often a coroutine that must end is told so before it is given up.
INSISTENCE = 3

#: The report of a task that was ended, as gevent's pool has it.
ENDED = (False, None, None)


class Host(Protocol):
    """The pool that a run belongs to."""

    #: The run whose code the loop is in; None between them.
    current: CoroutineRun | None

    def forget(self, run: CoroutineRun) -> None:
        """The task has ended."""

    def give_up(self, run: CoroutineRun, task: asyncio.Task[Any] | None) -> None:
        """The task never ends."""


class CoroutineEnded(BaseException):
    """The coroutine was told to end, and has."""


class Seat(greenlet):
    """A greenlet in which coroutines are stepped, and which knows for which run."""

    def __init__(self, code: Callable[..., Any], run: CoroutineRun) -> None:
        super().__init__(code)
        self.for_run = run
        # The context of the asyncio task: variables that either sets, both see.
        self.gr_context = getcurrent().gr_context

    def wait_for(self, awaited: Any) -> Any:
        """In the greenlet: the value of what a coroutine awaits."""
        return self.parent.switch(awaited)


class Steps(Coroutine[Any, Any, Any]):
    """The coroutine of an asyncio task whose code runs in a seat, and lends what that awaits.

    A class, and no function: an exception that comes before its first step, as where a task that
    was just made is cancelled, must reach the seat as well.
    """

    __slots__ = ("_code", "_run", "_seat", "shown")

    def __init__(self, run: CoroutineRun, code: Callable[..., Any], shown: Any = None) -> None:
        self._run, self._code = run, code
        self._seat: Seat | None = None
        #: The coroutine that asyncio's messages and debuggers show.
        self.shown = shown

    def send(self, value: Any) -> Any:
        """Run the seat until it awaits again, and return what; StopIteration has its result."""
        return self._step(value, None)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        """The same, where what was awaited has raised."""
        return self._step(None, error if isinstance(error, BaseException) else value or error())

    def close(self) -> None:
        """End it, where nobody will ask for its result any more."""
        if self._seat is None:
            if self.shown is not None:
                self.shown.close()
        elif not self._seat.dead:
            self._seat.throw(GreenletExit)

    def __await__(self) -> Generator[Any, Any, Any]:
        value = None
        while True:
            try:
                awaited = self.send(value)
            except StopIteration as stop:
                return stop.value
            value = yield awaited

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("cr_", "__name", "__qualname")):
            raise AttributeError(name)
        return getattr(self.shown, name)

    def _step(self, value: Any, error: BaseException | None) -> Any:
        run, seat = self._run, self._seat
        run.pool.current = run
        try:
            if seat is None:
                seat = self._seat = Seat(self._code, run)
                awaited = seat.switch(error)
            elif error is not None:
                awaited = seat.throw(error)
            else:
                awaited = seat.switch(value)
        finally:
            run.pool.current = None
        if seat.dead:
            raise StopIteration(awaited)
        return awaited


class CoroutineRun:
    """A task that the loop runs."""

    # Thousands wait at once: without a dict, and with containers when they are needed.
    __slots__ = (
        "__weakref__", "_args", "_is_insisted", "_is_reported", "_is_waiting", "_kwargs", "_name",
        "_options", "_target", "_task", "_thrown", "_timers", "_told", "children", "is_over",
        "number", "pool",
    )  # fmt: skip

    def __init__(
        self, pool: Host, number: int, target: Any, args: Any, kwargs: Any, options: Any
    ) -> None:
        self.pool = pool
        self.number = number
        self.is_over = False
        self._name = ""
        #: The asyncio tasks that it has begun, and those of these.
        self.children: weakref.WeakSet[asyncio.Task[Any]] | None = None
        self._target, self._args, self._kwargs = target, args, kwargs
        self._options = options
        self._task: asyncio.Task[Any] | None = None
        #: The coroutine awaits something: a cancellation reaches it.
        self._is_waiting = False
        #: Raised in the coroutine instead of its cancellation, or in its place when it next awaits.
        self._thrown: list[BaseException] | None = None
        #: It was told to end: how often, and whether the end was reported without waiting for it.
        self._told = 0
        self._is_reported = self._is_insisted = False
        self._timers: tuple[asyncio.TimerHandle, ...] = ()

    def __str__(self) -> str:
        if self._name:
            return self._name
        name, task_id = (*self._args[1:3], "?", "?")[:2]
        return f"{name}[{task_id}]"

    def terminate(self, signal: Any) -> None:
        """Celery calls this after the pool's ``terminate_job``, which has done it."""

    # In the loop's thread

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run it from the loop's next turn on."""
        self._task = loop.create_task(Steps(self, self._steps))
        soft, hard = self._options.get("soft_timeout"), self._options.get("timeout")
        if soft:
            self._timers += (loop.call_later(soft, self._on_soft_limit, soft),)
        if hard:
            self._timers += (loop.call_later(hard, self._on_hard_limit, hard),)

    def _steps(self, error: BaseException | None) -> None:
        """In the greenlet: the whole run."""
        _current.set(self)
        try:
            if error is None:
                self._trace()
        except CoroutineEnded:
            pass
        except BaseException as raised:
            logger.error("the report of task %s raised %r", self, raised, exc_info=raised)
        finally:
            self.is_over = True
            for timer in self._timers:
                timer.cancel()
            self.pool.forget(self)
            report_forgotten(set(self.children or ()))
            self._let_go()

    def _let_go(self) -> None:
        """Hold nothing more.

        asyncio keeps a timer that was cancelled, ``sleep(60)`` of a task that has ended, until it
        would have fired; with it a context, and with that this run.
        """
        self._name = str(self)
        self._target = self._args = self._kwargs = self._task = None
        self._options = {}
        self._timers, self._thrown = (), None
        self.children = None

    def _trace(self) -> None:
        """Celery's tracer, and the report."""
        options = self._options
        if (accept := options.get("accept_callback")) is not None:
            try:
                accept(self.number, time.monotonic())
            except Exception as error:
                logger.debug("task %s does not begin: %s", self, error)
                return
        try:
            report = self._target(*self._args, **self._kwargs)
        except CoroutineEnded:
            report = ENDED
        except Exception:
            raise
        except BaseException as error:
            # As Celery has it of a task whose own process would have ended with this.
            report = raised(WorkerLostError(repr(error)).with_traceback(error.__traceback__))
        if not self._is_reported:
            self._is_reported = True
            options["callback"](report)

    def drive(
        self, seat: Seat, coroutine: Coroutine[Any, Any, Any], *, is_main: bool,
        error: BaseException | None = None,
    ) -> Any:  # fmt: skip
        """In a greenlet: run a coroutine to its end, and return what it returns.

        Where ``error`` is given, the coroutine begins with that being raised.
        """
        value = None
        while True:
            try:
                if error is not None:
                    awaited = coroutine.throw(error)
                else:
                    awaited = coroutine.send(value)
            except StopIteration as stop:
                return stop.value
            except asyncio.CancelledError:
                if is_main and self._told:
                    raise CoroutineEnded from None
                raise
            error = None
            if is_main and self._thrown:
                # It came while the coroutine did not wait. What it has begun to await is let go.
                error = self._thrown.pop(0)
                if hasattr(awaited, "cancel"):
                    awaited.cancel()
                continue
            try:
                self._is_waiting = self._is_waiting or is_main
                value = seat.wait_for(awaited)
            except asyncio.CancelledError as cancelled:
                error = cancelled
                if is_main and self._thrown:
                    error = self._thrown.pop(0)
                    if not isinstance(error, asyncio.CancelledError):
                        uncancel(self._task)
            except BaseException as thrown:
                error = thrown
            finally:
                if is_main:
                    self._is_waiting = False

    def throw(self, error: BaseException) -> None:
        """Raise this in the coroutine, at what it awaits now or next."""
        if self.is_over:
            return
        self._thrown = [*(self._thrown or ()), error]
        if self._is_waiting and self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """Have the coroutine end: by CancelledError, so that its ``finally`` runs."""
        self._told += 1
        self.throw(asyncio.CancelledError("the job was cancelled, or its worker leaves"))

    def _on_soft_limit(self, limit: float) -> None:
        if not self._is_reported:
            self._tell("timeout_callback", True, limit)
            self.throw(SoftTimeLimitExceeded(limit))

    def _on_hard_limit(self, limit: float) -> None:
        """Report it as billiard does, and end the coroutine, which may take its time."""
        if self._is_reported:
            return
        self._is_reported = True
        self._tell("error_callback", raised(TimeLimitExceeded(limit)))
        self._tell("timeout_callback", False, limit)
        self.finish()

    def finish(self) -> None:
        """Have the coroutine end for good: each second told anew, and at last given up."""
        if not self._is_insisted:
            self._is_insisted = True
            self._insist()

    def _insist(self) -> None:
        if self.is_over:
            return
        if self._told >= INSISTENCE:
            logger.error("task %s goes on although it was told to end; it is left to itself", self)
            self.pool.give_up(self, self._task)
            return
        self.end()
        self._timers += (asyncio.get_running_loop().call_later(1.0, self._insist),)

    def _tell(self, name: str, *args: Any) -> None:
        try:
            self._options[name](*args)
        except Exception as error:
            logger.error("%s of task %s raised %r", name, self, error, exc_info=error)


_current: ContextVar[CoroutineRun | None] = ContextVar("pgjobs_coroutine_run", default=None)


def find_driver() -> Driver | None:
    """The driver of the coroutine whose code runs in a seat; None anywhere else."""
    seat = getcurrent()
    if not isinstance(seat, Seat):
        return None
    return lambda coroutine: seat.for_run.drive(seat, coroutine, is_main=True)


def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """The loop's task factory: what a task's coroutine begins knows the task as well."""
    run = _current.get()
    if run is None or run.is_over:
        return asyncio.Task(coroutine, loop=loop, **options)
    carried = Carried()

    def code(error: BaseException | None) -> Any:
        seat = getcurrent()
        assert isinstance(seat, Seat)
        with carried.here():
            return run.drive(seat, coroutine, is_main=False, error=error)

    task = asyncio.Task(Steps(run, code, coroutine), loop=loop, **options)
    if run.children is None:
        run.children = weakref.WeakSet()
    run.children.add(task)
    return task
