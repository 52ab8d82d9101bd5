"""Direct an app's tasks in a test: into an inbox, to be run at once, or to its real broker.

    with testing(app) as captured:
        sign_up("ann@example.com")
    assert captured.all_enqueued()[0].task == "proj.tasks.welcome"

A mode takes the place of two things that an app keeps: the pool its producers come from, and its
result backend. Every step before a message is handed to a transport is the real one.

It holds for the whole app, and not for the thread or asyncio task that has entered it: the code
under test publishes from its own threads (a server's, an executor's), which a context variable does
not reach, and the tasks that it missed would go to the broker of the settings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..errors import InvalidOption, PgJobsError
from ..job.checks import did_you_mean
from .capturing import escapes, forked
from .capturing.capture import Enqueued, Inbox
from .capturing.receiving import receive_into
from .capturing.results import MemoryBackend
from .capturing.rows import Rows
from .capturing.transport import make_pool
from .under_test import AppUnderTest, Endpoints

#: The modes of a test.
MODES = ("manual", "inline", "real")


class testing:  # noqa: N801
    """A context manager, ``with`` or ``async with``, in which an app's tasks are captured.

    ``mode``:

    - ``"manual"``: they are recorded, and nothing runs.
    - ``"inline"``: each is run where it is published, before ``delay()`` returns. An exception
      is in its result, as from a worker; with ``propagate`` it is raised there as well.
    - ``"real"``: they are rows in the database of the app's broker, which must be ``pgjobs://``.

    The first two need no server at all, whatever the app's settings name. Blocks may be nested: the
    innermost counts, and each has an inbox of its own. Raises InvalidOption.
    """

    # A class, because pytest takes an imported function of such a name for a test.
    __test__ = False

    def __init__(self, app: Any, mode: str = "manual", *, propagate: bool = False) -> None:
        if mode not in MODES:
            meant = did_you_mean(str(mode), MODES) or f": {', '.join(MODES)}"
            raise InvalidOption(f"there is no mode {mode!r}{meant}")
        #: The Celery app.
        self.app = unwrap(app)
        if self.app.conf.task_protocol != 2:
            raise InvalidOption("testing() reads messages of Celery's task_protocol 2 only")
        #: "manual", "inline" or "real".
        self.mode = mode
        #: Inline: an exception of a task is raised where it is published.
        self.propagate = propagate
        #: The jobs published in the block; empty in mode "real".
        self.inbox = Inbox()
        self._jobs: Inbox | Rows = Rows(self.app) if mode == "real" else self.inbox
        self._endpoints: Endpoints | None = None
        self._escapes = 0

    def __enter__(self) -> testing:
        with _lock:
            if not _stages:
                escapes.watch(_is_any_real)
            self._escapes = escapes.count()
            if self.app not in _stages:
                _stages[self.app] = AppUnderTest(self.app)
            _stages[self.app].enter(self)
            forked.watch(self.inbox)
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            forked.unwatch(self.inbox)
            stage = _stages.get(self.app)
            if stage is not None and not stage.leave(self):
                del _stages[self.app]
                stage.end()
                if not _stages:
                    escapes.unwatch()

    async def __aenter__(self) -> testing:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def __repr__(self) -> str:
        return f"<testing {self.app.main!r}, {self.mode}: {len(self.inbox)} published>"

    def clear(self) -> None:
        """Forget the jobs published so far."""
        self.inbox.clear()
        self._escapes = escapes.count()

    @property
    def last(self) -> int:
        """The number of the job that was published last."""
        return self._jobs.last

    def enqueued(
        self, task: str | None = None, after: int | None = None, *, is_any_state: bool = False
    ) -> list[Enqueued]:
        """The jobs that are enqueued, of a task or all, in the order they were published.

        Those that wait; but with ``after``, with a state, and in mode inline, where jobs do not
        wait, all that were published (after that one), in any state.
        """
        jobs = self._jobs.find(task, after or 0)
        if after is None and self.mode != "inline" and not is_any_state:
            return [job for job in jobs if job.is_waiting]
        return [job for job in jobs if not job.is_again]

    def has_published(self, task: str) -> bool:
        """True if there was a job of this task."""
        return bool(self._jobs.find(task))

    def escaped(self, task: Any = None, since: int | None = None) -> list[str]:
        """The tasks, of a name or of all that the app has, that were published past every block."""
        names = escapes.since(self._escapes if since is None else since)
        return [name for name in names if (name == task if task else name in self.app.tasks)]

    def published(self, after: int | None = None) -> list[Enqueued]:
        """All jobs that were published, after one."""
        return self._jobs.find(None, after or 0)

    def wait_until(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``holds()``, for so many seconds at most; return whether it does."""
        return self._jobs.wait_until(holds, timeout)

    def endpoints(self) -> Endpoints | None:
        """The block's endpoints; None for those of the settings, or of an outer block."""
        if self._endpoints is None and self.mode != "real":
            run, run_waiting, send = self._runners()
            zone = lambda: self.app.timezone  # noqa: E731
            producers = make_pool(receive_into(self.inbox, zone, run))
            backend = MemoryBackend(self.app, run_waiting, send)
            self._endpoints = Endpoints(producers, producers.connections, backend)
        return self._endpoints

    def forget_connections(self) -> None:
        """In a forked child, where its parent's are closed."""
        if self.mode == "real":
            if self._endpoints is not None:
                self._endpoints.forget_connections()
        else:
            self._endpoints = None

    def _runners(
        self,
    ) -> tuple[Callable[[Enqueued], None] | None, Callable[[], None] | None, Callable[..., int]]:
        def send(signals: Any, is_first: bool) -> int:
            return self.inbox.memories.send(signals, is_first=is_first)

        if self.mode != "inline":
            return None, None, send
        from .running.inline import (
            InlineRunner,
        )  # loads a worker's request, which other modes need not

        runner = InlineRunner(self.app, self.inbox, propagate=self.propagate)

        def send_and_run(signals: Any, is_first: bool) -> int:
            count = send(signals, is_first)
            runner.on_signals()
            return count

        return runner.on_job, runner.run_waiting, send_and_run


def _is_any_real() -> bool:
    """True if an app is in mode real: its tasks are not received here."""
    current = [stage.current for stage in list(_stages.values())]
    return any(block is not None and block.mode == "real" for block in current)


#: The apps that are being tested; kept no longer than that.
_stages: dict[Any, AppUnderTest[testing]] = {}
_lock = threading.RLock()


def unwrap(app: Any) -> Any:
    """The app itself, of a proxy such as ``celery.current_app``."""
    return getattr(app, "_get_current_object", lambda: app)()


def find_testing(app: Any = None) -> testing:
    """The innermost block of an app; without one, of the only app that is in any.

    Raises PgJobsError without a block.
    """
    if app is not None:
        app = unwrap(app)
    with _lock:
        stages = [stage for each, stage in _stages.items() if app in (None, each)]
    for stage in stages:
        stage.check()
    found = [stage.current for stage in stages if stage.current is not None]
    if not found:
        raise PgJobsError(
            "nothing is captured here: use `with testing(app):` or the fixture pgjobs, and have "
            "the assertion inside of it"
        )
    if len(found) > 1:
        names = ", ".join(repr(each.app.main) for each in found)
        raise PgJobsError(f"several apps are being tested ({names}): say which with app=")
    return found[0]
