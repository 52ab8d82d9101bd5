"""An app whose tasks' hooks, signal handlers and requests raise where they are told to."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from celery import Celery, Task, signals
from celery.concurrency import thread
from celery.concurrency.base import apply_target
from celery.exceptions import Reject
from celery.worker.request import Request
from kombu.serialization import register

from pgjobs_celery import PgTask

from .tasks import URL, UnpicklableError, append, report_ready, wait_for_file  # noqa: F401 - it tells that it is ready

app = Celery("tests.hooked", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))


def die(body: Any) -> None:
    """Decode a message whose reading kills the process, as a fault in a library in C would."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


register("deadly", str, die, "application/x-deadly")

#: What a hook may raise, by name.
ERRORS = {
    "error": lambda: RuntimeError("from a hook"),
    "reject": lambda: Reject("from a hook"),
    "requeue": lambda: Reject("from a hook", requeue=True),
    "exit": lambda: SystemExit(3),
    "unpicklable": lambda: UnpicklableError(reason="a hook"),
}
#: Where: the task's own hooks.
HOOKS = ("before_start", "on_failure", "on_retry", "on_success", "after_return", "__call__")
#: Receivers of Celery's signals, which survive all but an exit.
SIGNALS = ("task_prerun", "task_postrun", "task_success")
#: What Celery's worker calls in its main process.
REQUESTS = ("on_accepted", "on_success", "on_failure", "on_retry", "on_timeout", "revoked")


def burst(where: str, args: Any) -> None:
    """Raise, if ``args`` say that it is to be here."""
    if args and args[0] == where:
        raise ERRORS[args[1]]()


class Hooked:
    """The hooks of a task: ``args`` are where to raise and what."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        burst("before_start", args)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        burst("on_failure", args)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        burst("on_retry", args)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        burst("on_success", args)

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        burst("after_return", args)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        burst("__call__", args)
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


class BadRequest(Request):  # type: ignore[misc]
    """A project's own request, which raises in the worker's main process."""

    def _burst(self, where: str) -> None:
        burst(where, [str(each).removeprefix("request.") for each in self._args or ()])

    def on_accepted(self, *args: Any, **kwargs: Any) -> Any:
        self._burst("on_accepted")
        return super().on_accepted(*args, **kwargs)

    def on_success(self, *args: Any, **kwargs: Any) -> Any:
        self._burst("on_success")
        return super().on_success(*args, **kwargs)

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        self._burst("on_failure")
        return super().on_failure(*args, **kwargs)

    def on_retry(self, *args: Any, **kwargs: Any) -> Any:
        self._burst("on_retry")
        return super().on_retry(*args, **kwargs)

    def on_timeout(self, *args: Any, **kwargs: Any) -> Any:
        self._burst("on_timeout")
        return super().on_timeout(*args, **kwargs)

    def revoked(self) -> bool:
        self._burst("revoked")
        return bool(super().revoked())


class HookedTask(Hooked, Task):  # type: ignore[misc]
    abstract = True


class HookedPgTask(Hooked, PgTask):
    abstract = True
    max_attempts = 2

    def backoff(self, job: Any) -> float:
        return 0.05


def work(self: Task, where: str, how: str) -> str:
    """Do what leads to there: fail, retry once, or return."""
    place = where.rpartition(".")[2]
    if place in ("on_failure", "task_failure"):
        raise KeyError("the task's own")
    if place in ("on_retry", "task_retry") and not self.request.retries:
        raise self.retry(countdown=0, max_retries=1)
    return "done"


# Not shared: every app of this process would have a task of such a name.
options: dict[str, Any] = {"bind": True, "max_retries": 1}
early = app.task(work, base=HookedTask, name="early", shared=False, **options)
late = app.task(work, base=HookedTask, name="late", shared=False, acks_late=True, **options)
ignored = app.task(
    work, base=HookedTask, name="ignored", shared=False, ignore_result=True, **options
)
in_attempts = app.task(work, base=HookedPgTask, name="in_attempts", shared=False, bind=True)
plain = app.task(work, name="plain", shared=False, **options)
plain_late = app.task(work, name="plain_late", shared=False, acks_late=True, **options)
requested = app.task(work, name="requested", shared=False, **options)
requested_late = app.task(work, name="requested_late", shared=False, acks_late=True, **options)
for each in (requested, requested_late):
    each.Request = BadRequest


@app.task
def hold(started: str, release: str) -> str:
    append(started, os.getpid())
    wait_for_file(release)
    return "released"


@app.task
def add(x: int, y: int) -> int:
    return x + y


def sleep(self: Task, where: str, how: str) -> None:
    time.sleep(60)


slow = app.task(sleep, base=HookedTask, name="slow", shared=False, bind=True, time_limit=0.5)
slow_late = app.task(
    sleep,
    base=HookedTask,
    name="slow_late",
    shared=False,
    bind=True,
    time_limit=0.5,
    acks_late=True,
)


@app.task
def exhaust() -> None:
    raise MemoryError("from the task")


@app.task(acks_late=True)
def exhaust_late() -> None:
    raise MemoryError("from the task")


@app.task
def note(path: str) -> None:
    append(path, "called")


def listen(name: str) -> None:
    """Have a receiver of this signal raise for the tasks that say so."""

    def receive(sender: Any, args: Any = None, request: Any = None, **_: Any) -> None:
        burst(f"signal.{name}", args or getattr(sender.request, "args", None))

    getattr(signals, name).connect(receive, weak=False)


for each_signal in SIGNALS:
    listen(each_signal)


class Unsent(Request):  # type: ignore[misc]
    """A request that is not sent to the pool, without a word, as many times as it is told."""

    def execute_using_pool(self, pool: Any, **kwargs: Any) -> Any:
        path, times = self._args
        if append(path, "not sent") <= times:
            return None
        return super().execute_using_pool(pool, **kwargs)


@app.task
def unsent(path: str, times: int) -> str:
    return "sent"


unsent.Request = Unsent


@app.task
def unheard() -> str:
    """Its thread is lost with what it has returned, see below."""
    return "unheard"


@app.task(base=PgTask, max_attempts=1)
def unheard_late() -> str:
    return "unheard"


def lose_ends(
    target: Any, args: Any, kwargs: Any, callback: Any, *others: Any, **options: Any
) -> Any:
    """Celery's ``apply_target`` in a thread, which forgets what some tasks have returned."""
    if args[1].rpartition(".")[2] in ("unheard", "unheard_late"):
        callback = lambda returned: None  # noqa: E731
    return apply_target(target, args, kwargs, callback, *others, **options)


thread.apply_target = lose_ends
