"""The thread of the event loop, and one that sees when a task holds it up."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import Any

from ...printable import guarded
from ...scopes.frames import frame_of
from ...scopes.steady import monotonic
from ...tasks.executor import Executor
from .run import make_task

logger = guarded(logging.getLogger(__name__))

#: How often the loop says that it turns, and after how long without it something holds it up; in
#: seconds.
BEAT, STALLED = 0.25, 1.0
#: How long what still runs in the loop may take to end when the worker leaves, in seconds.
GRACE = 2.0


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed, or asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class LoopThread:
    """An event loop in a thread of its own, so that nothing in it holds up the worker."""

    def __init__(self, holder: Callable[[], Any]) -> None:
        #: Tells the log which task the loop runs just now.
        self._holder = holder
        self.loop = new_loop()
        self.loop.set_task_factory(make_task)
        self.loop.set_default_executor(Executor())
        #: Tasks that go on although they were told to end.
        self.given_up: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._beat = monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pgjobs-aio", daemon=True)
        self._watch = threading.Thread(target=self._look, name="pgjobs-aio-watch", daemon=True)

    def start(self) -> None:
        """Begin to turn."""
        self._thread.start()
        self._watch.start()

    @property
    def is_here(self) -> bool:
        """True in the loop's own thread."""
        return threading.current_thread() is self._thread

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Call it in the loop's thread, in its next turn."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *args)

    def ask(self, function: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Its answer from the loop's thread. Raises TimeoutError where something holds that up."""
        future: Future[Any] = Future()

        def answer() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self.call(answer)
        return future.result(timeout)

    def stop(self) -> None:
        """End what still runs in it, and the thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self.call(self.loop.stop)
            self._thread.join(GRACE + 5.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self._tick()
        try:
            self.loop.run_forever()
            self._finish()
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def _finish(self) -> None:
        tasks = asyncio.all_tasks(self.loop) - set(self.given_up)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=GRACE))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    def _tick(self) -> None:
        self._beat = monotonic()
        self.loop.call_later(BEAT, self._tick)

    def _look(self) -> None:
        """In the watching thread: say once of each stall what causes it."""
        told = 0.0
        holder: Any = None
        while not self._stopped.wait(BEAT):
            beat = self._beat
            stall = monotonic() - beat
            if stall >= STALLED and told != beat:
                told, holder = beat, self._holder()
                logger.warning(
                    "%s holds up the event loop, and all coroutines with it, for more than a "
                    "second:\n%s", f"task {holder}" if holder else "something", self._stack(),
                )  # fmt: skip
            elif told and beat > told:
                logger.warning(
                    "the event loop goes on; %s held it up for %.1f s",
                    f"task {holder}" if holder else "something", beat - told,
                )  # fmt: skip
                told = 0.0

    def _stack(self) -> str:
        frame: FrameType | None = frame_of(self._thread)
        return "".join(traceback.format_stack(frame, 15)) if frame else ""
