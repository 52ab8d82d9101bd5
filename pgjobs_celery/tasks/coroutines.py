"""Run the coroutine of an ``async def`` task for Celery's tracer, which is synchronous.

On the pool of ``worker/aio`` the event loop of the pool drives it. Elsewhere (prefork, threads,
solo, greenlets, eager) it runs in an event loop of this thread, which is kept for the thread's
life: an HTTP client or a pool of connections that one task has made is of use to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.app import trace
from celery.exceptions import SoftTimeLimitExceeded

from ..errors import CoroutineCancelled
from ..printable import guarded
from ..publishing.carried import Carried
from ..scopes.greenlets import patched_by
from .executor import Executor
from .plain import is_called_by_celery, is_coroutine, is_ours

logger = guarded(logging.getLogger(__name__))

#: How long the event loop of a thread that ends may take to end its tasks, in seconds.
GRACE = 1.0

#: Runs a coroutine for the code that calls it.
Driver = Callable[[Coroutine[Any, Any, Any]], Any]


def _no_driver() -> Driver | None:
    return None


#: The driver of the code that runs here, on a pool that has one: see :func:`drive_by`.
_find_driver: Callable[[], Driver | None] = _no_driver


def drive_by(find: Callable[[], Driver | None]) -> None:
    """Have coroutines of tasks driven by what ``find`` returns where it returns anything."""
    global _find_driver
    _find_driver = find


def synchronous(run: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns what the coroutine function ``run`` returns in the end."""
    return lambda *args, **kwargs: complete(run(*args, **kwargs))


def complete(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it to its end, and return what it returns.

    Raises CoroutineCancelled where it ends by a CancelledError that it got from its own code.
    """
    driver = _find_driver()
    try:
        if driver is not None:
            return driver(coroutine)
        return _find_thread()(coroutine)
    except asyncio.CancelledError as error:
        raise CoroutineCancelled(
            "the task's coroutine ended by a CancelledError that neither a cancellation of the job "
            "nor a shutdown has caused: something that it awaited was cancelled"
        ) from error


def prepare_task(task: Any, *, is_ours: bool = True) -> None:
    """Have a plain task that is a coroutine run to its end, in a worker or a test.

    On the task itself, as Celery's autoretry does it: the tracer is made from ``task.run``. A task
    that another calls by itself gives its coroutine, to be awaited. Where it is not known yet
    whether the app is ours, its settings say so when the task runs.
    """
    if not hasattr(task.run, "_is_complete"):
        if not is_coroutine(task.run):
            return
        _complete_body(task)
    if is_ours:
        task._is_ours = True


def _complete_body(task: Any) -> None:
    body = task._orig_run if hasattr(task, "_orig_run") else task.run

    @functools.wraps(body)
    def complete_run(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        coroutine = body(*args, **kwargs)
        if request.called_directly and not request.is_eager and not is_called_by_celery(args):
            return coroutine
        # An embedded worker may run the tasks of another app than its own: the current one's.
        if _is_awaited() or not (getattr(task, "_is_ours", False) or is_ours(task.app)):
            return coroutine
        return complete(coroutine)

    if hasattr(task, "_orig_run"):
        # Autoretry, which has to see the exceptions, calls this.
        task._orig_run = complete_run
    else:
        task.run = complete_run
    # So does the body of a PgTask itself.
    task.run._is_complete = True


def _is_awaited() -> bool:
    """True where the tracer is one that awaits coroutines: celery-aio-pool's, and not Sentry's."""
    return bool(trace.build_tracer.__module__.startswith("celery_aio_pool"))


class ThreadLoop:
    """The event loop of a thread outside of any coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(Executor())
        # Weakly: a thread that ends must close its loop at once, and not when garbage is collected.
        self._loop.set_exception_handler(functools.partial(_on_error, weakref.ref(self)))
        self._running: asyncio.Task[Any] | None = None
        self._thrown: BaseException | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end."""
        task = self._loop.create_task(self._interruptible(coroutine))
        self._running, self._thrown = task, None
        before = asyncio.all_tasks(self._loop)
        try:
            while True:
                try:
                    returned = self._loop.run_until_complete(task)
                    break
                except BaseException as error:
                    if task.done():
                        raise
                    # A signal (a time limit, a shutdown) has interrupted the loop, and not the
                    # coroutine: it is told, so that its ``finally`` runs.
                    self._throw(error)
        finally:
            self._running = None
            report_forgotten(asyncio.all_tasks(self._loop) - before)
        return returned

    async def _interruptible(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await Interrupted(coroutine, self._take_thrown)

    def _take_thrown(self) -> BaseException | None:
        error, self._thrown = self._thrown, None
        return error

    def _throw(self, error: BaseException) -> None:
        self._thrown = error
        if self._running is not None:
            self._running.cancel()

    def hit(self, error: SoftTimeLimitExceeded) -> bool:
        """Raise a time limit in the coroutine that runs; False if there is none."""
        if self._running is None:
            return False
        self._throw(error)
        return True

    def close(self) -> None:
        """End what still runs in it."""
        loop = self._loop
        if loop.is_closed() or loop.is_running():
            return
        with contextlib.suppress(Exception):
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=GRACE))
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.close()


def _on_error(
    thread: weakref.ref[ThreadLoop], loop: asyncio.AbstractEventLoop, context: dict[str, Any]
) -> None:
    """Handle what a callback has raised: perhaps a time limit that hit it by chance."""
    error, found = context.get("exception"), thread()
    if not (isinstance(error, SoftTimeLimitExceeded) and found and found.hit(error)):
        loop.default_exception_handler(context)


class Interrupted:
    """Awaits a coroutine, and throws another exception into it than the one it was cancelled by."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], take: Callable[[], BaseException | None]
    ) -> None:
        self._coroutine = coroutine
        self._take = take

    def __await__(self) -> Any:
        step: Callable[[], Any] = functools.partial(self._coroutine.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as stop:
                return stop.value
            try:
                value = yield awaited
            except BaseException as error:
                thrown = self._take() if isinstance(error, asyncio.CancelledError) else None
                if thrown is not None:
                    uncancel(asyncio.current_task())
                step = functools.partial(self._coroutine.throw, thrown or error)
            else:
                step = functools.partial(self._coroutine.send, value)


def uncancel(task: asyncio.Task[Any] | None) -> None:
    """Take a cancellation back that became another exception: ``asyncio.timeout()`` counts them."""
    if task is not None and hasattr(task, "uncancel"):  # Python 3.11
        task.uncancel()


def report_forgotten(tasks: set[asyncio.Task[Any]]) -> None:
    """Say in the log which asyncio tasks a Celery task has started and not awaited."""
    for task in tasks:
        if not task.done():
            logger.warning(
                "the task has ended, and an asyncio task that it began has not: %s; it runs on "
                "when the event loop does",
                task,
            )


_local = threading.local()


def _find_thread() -> Driver:
    """The driver of a coroutine where no loop of a pool has it."""
    is_nested = asyncio._get_running_loop() is not None
    outside = _outside()
    if outside is not None:
        return outside
    if is_nested:
        # Eager, within the coroutine of a program: this thread's loop cannot run another.
        return _in_helper
    return _own_loop().run


def _own_loop() -> ThreadLoop:
    loop: ThreadLoop | None = getattr(_local, "loop", None)
    if loop is None:
        loop = _local.loop = ThreadLoop()
    return loop


def _run_here(carried: Carried, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with carried.here():
        return _own_loop().run(coroutine)


def _outcome_here(
    carried: Carried, coroutine: Coroutine[Any, Any, Any]
) -> tuple[Any, BaseException | None]:
    try:
        return _run_here(carried, coroutine), None
    except BaseException as error:
        return None, error


def _in_helper(coroutine: Coroutine[Any, Any, Any]) -> Any:
    context = contextvars.copy_context()
    return _helper().submit(context.run, _run_here, Carried(), coroutine).result()


def _outside() -> Driver | None:
    """A thread of the operating system, where this one belongs to gevent or eventlet.

    Their greenlets share a thread, which can run one event loop at a time.
    """
    patched = patched_by()
    if patched == "gevent":
        return _in_gevents_threads
    return _in_eventlets_threads if patched == "eventlet" else None


def _in_gevents_threads(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import gevent

    context = contextvars.copy_context()
    # gevent prints what a function of its pool raises.
    return _result_of(
        gevent.get_hub().threadpool.apply(context.run, (_outcome_here, Carried(), coroutine))
    )


def _in_eventlets_threads(coroutine: Coroutine[Any, Any, Any]) -> Any:
    from eventlet import tpool

    context = contextvars.copy_context()
    # A BaseException (a sleep, a cancellation, sys.exit()) ends eventlet's thread, and nobody hears
    # of it.
    return _result_of(tpool.execute(context.run, _outcome_here, Carried(), coroutine))


def _result_of(outcome: tuple[Any, BaseException | None]) -> Any:
    returned, error = outcome
    if error is not None:
        raise error
    return returned


@functools.cache
def _helper() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="pgjobs-eager")


def _forget_parent() -> None:
    """In a forked child: the loop's descriptors are the parent's, too, and its threads are not."""
    global _local
    kept.append(_local.__dict__.pop("loop", None))  # never closed here
    _local = threading.local()
    _helper.cache_clear()


#: Loops of the process that this one was forked from.
kept: list[Any] = []

os.register_at_fork(after_in_child=_forget_parent)
