"""The pool: coroutines in one event loop, other tasks in threads beside it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency.base import BasePool, apply_target
from celery.worker import state

from ...printable import guarded
from ...scopes.greenlets import patched_by
from ...tasks.coroutines import drive_by, prepare_task
from ...tasks.plain import is_coroutine
from .loop import LoopThread
from .run import CoroutineRun, find_driver

logger = guarded(logging.getLogger(__name__))

#: How many threads run tasks that are no coroutines, at the most.
THREADS = 32
#: How long a cold shutdown waits for coroutines that it has told to end, in seconds.
PATIENCE = 5.0


class TaskPool(BasePool):
    """Runs as many coroutines at once as ``--concurrency`` says; no process, and no thread each.

    Time limits and ``terminate`` end a coroutine by an exception at what it awaits. Tasks that are
    no coroutines run in up to 32 threads, where neither can end them, as in the threads pool.
    """

    #: How many coroutines run at once.
    limit: int
    body_can_be_buffer = True
    signal_safe = False
    #: A task may wait here until another has ended, and be cancelled meanwhile.
    begins_late = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_greenlets()
        #: The run whose code the loop is in.
        self.current: CoroutineRun | None = None
        #: By number, all that this pool has: those that wait as well.
        self._pool_map: dict[int, Any] = {}
        self._numbers = itertools.count(1)
        self._waiting: deque[CoroutineRun] = deque()
        self._running: set[int] = set()
        #: By name, each task and whether it is a coroutine: to find out takes 3 microseconds.
        self._coroutines: dict[Any, tuple[Any, bool]] = {}
        self._is_told = self._is_closing = self._is_shut = False
        self._is_empty = threading.Condition()
        self._loop = LoopThread(lambda: self.current)
        self.executor_of_threads = ThreadPoolExecutor(
            min(THREADS, self.limit), thread_name_prefix="pgjobs-task"
        )

    def on_start(self) -> None:
        """Begin to run tasks."""
        # On another broker nothing else has prepared them.
        for task in list(self.app.tasks.values()):
            prepare_task(task)
        drive_by(find_driver)
        self._loop.start()

    def on_apply(
        self, target: Any, args: Any = None, kwargs: Any = None, callback: Any = None,
        accept_callback: Any = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Run the task: its coroutine in the loop, or its function in a thread."""
        number = next(self._numbers)
        if not self._is_coroutine(args or ()):
            self._pool_map[number] = None
            return self.executor_of_threads.submit(
                self._in_thread, number, target, args, kwargs, callback, accept_callback
            )
        options.update(callback=callback, accept_callback=accept_callback)
        run = CoroutineRun(self, number, target, args or (), kwargs or {}, options)
        self._pool_map[number] = run
        self._waiting.append(run)
        if not self._is_told:
            # Once for all that come until the loop looks.
            self._is_told = True
            self._loop.call(self._begin)
        return run

    def _is_coroutine(self, args: Any) -> bool:
        """True for a task whose body is a coroutine; args are those of our tracer, or Celery's."""
        name = next((each for each in args if isinstance(each, str)), None)
        task = self.app.tasks.get(name)
        known = self._coroutines.get(name)
        if known is None or known[0] is not task:
            known = self._coroutines[name] = (task, task is not None and is_coroutine(task.run))
        return known[1]

    def _in_thread(
        self, number: int, target: Any, args: Any, kwargs: Any, callback: Any, accept: Any
    ) -> None:
        try:
            apply_target(target, args, kwargs, callback, accept)
        finally:
            self._forget(number)

    def _begin(self) -> None:
        """In the loop: begin what waits, as long as there is room."""
        self._is_told = False
        while self._is_closing and self._waiting:
            self._forget(self._waiting.popleft().number)  # its job goes back in line
        while self._waiting and len(self._running) < self.limit:
            run = self._waiting.popleft()
            self._running.add(run.number)
            run.begin(self._loop.loop)

    def forget(self, run: CoroutineRun) -> None:
        """In the loop: the task has ended, or is given up."""
        self._running.discard(run.number)
        self._forget(run.number)
        if self._waiting:
            self._begin()

    def give_up(self, run: CoroutineRun, task: asyncio.Task[Any] | None) -> None:
        """In the loop: the task never ends; the worker does not wait for it when it leaves."""
        if task is not None:
            self._loop.given_up.add(task)
        self.forget(run)

    def _forget(self, number: int) -> None:
        self._pool_map.pop(number, None)
        if not self._pool_map:
            with self._is_empty:
                self._is_empty.notify_all()

    def cancel_job(self, number: int) -> None:
        """Raise CancelledError in the coroutine of a job that was cancelled."""
        run = self._pool_map.get(number)
        if run is not None:
            self._loop.call(run.end)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """End a coroutine; one that goes on is given up after some seconds.

        Raises NotImplementedError for a task in a thread.
        """
        if pid in self._pool_map and self._pool_map[pid] is None:
            raise NotImplementedError("a task in a thread cannot be ended")
        if (run := self._pool_map.get(pid)) is not None:
            self._loop.call(run.finish)

    def on_stop(self) -> None:
        """Wait until all that runs has ended, as the threads pool does; nothing else begins.

        A cold shutdown stops the pool as well. Celery has cancelled what it knew to run; a task
        that began at that moment would keep it waiting.
        """
        if self._is_shut:
            return
        self._is_closing = True
        self._loop.call(self._begin)
        if state.should_terminate is not None and state.should_terminate is not False:
            self.on_terminate()
            return
        with self._is_empty:
            while self._pool_map:
                self._is_empty.wait(1.0)
        self._shut()

    def on_terminate(self) -> None:
        """End all coroutines, and wait for them a little."""
        self._is_closing = True
        for run in list(self._pool_map.values()):
            if run is not None:
                self._loop.call(run.finish)
        until = time.monotonic() + PATIENCE
        with self._is_empty:
            while any(self._pool_map.values()) and time.monotonic() < until:
                self._is_empty.wait(0.1)
        self._shut()

    def _shut(self) -> None:
        self._is_shut = True
        self.executor_of_threads.shutdown(wait=False, cancel_futures=True)
        self._loop.stop()
        drive_by(lambda: None)

    def grow(self, n: int = 1) -> None:
        """Run ``n`` more at once."""
        self.limit += n
        self._loop.call(self._begin)

    def shrink(self, n: int = 1) -> None:
        """Run ``n`` fewer at once, when as many have ended."""
        self.limit = max(1, self.limit - n)

    @property
    def num_processes(self) -> int:
        """How many it runs at once."""
        return self.limit

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        return {
            **info, "coroutines": len(self._running), "waiting": len(self._waiting),
            "threads": len(self.executor_of_threads._threads),
        }  # fmt: skip


def refuse_greenlets() -> None:
    """Raise SystemExit where gevent or eventlet has patched this process."""
    if (patched := patched_by()) is not None:
        raise SystemExit(
            f"this pool runs asyncio's event loop in a thread, which {patched} has patched away: "
            f"do not patch its worker, or use --pool {patched}"
        )
