"""The app of the tests of PgTask: every task is one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from celery import Celery, chain, chord
from celery.exceptions import Reject
from celery.utils.dispatch import Signal

from pgjobs_celery import Cancel, Concurrency, Discard, PgTask, Rate, Snooze, bulk
from pgjobs_celery.signals import job_claimed, job_discarded, job_finished

from .tasks import URL, append, wait_for_file

app = Celery(
    "pgtasks", broker=URL, backend=URL, task_cls="pgjobs_celery:PgTask", set_as_current=False
)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))


def note_signal(signal: Signal, sender: Any, **given: Any) -> None:
    """Write down what was sent: a line of JSON in the file that the environment names."""
    if path := os.environ.get("PGJOBS_TEST_SIGNALS"):
        names = {name: value for name, value in given.items() if name in signal.providing_args}
        append(path, json.dumps({"signal": signal.name, "sender": sender, **names}))


for each in (job_claimed, job_discarded, job_finished):
    each.connect(note_signal)


class Quick(PgTask):
    """Its next attempt follows soon."""

    abstract = True

    def backoff(self, job: Any) -> float:
        return 0.05


class Broken(PgTask):
    abstract = True

    def backoff(self, job: Any) -> float:
        raise KeyError("no backoff today")


@app.task(base=Quick, bind=True, max_attempts=3)
def fail(self: PgTask, times: int, how: str = "ValueError") -> dict[str, int]:
    """Fails the first ``times`` times; says which attempt did not."""
    if self.request.attempt <= times:
        raise {"ValueError": ValueError, "OSError": OSError}[how](f"time {self.request.attempt}")
    request = self.request
    return {
        "attempt": request.attempt,
        "max_attempts": request.max_attempts,
        "retries": request.retries,
    }


@app.task(base=Quick, bind=True, max_attempts=3)
def publish_in_bulk(self: PgTask, count: int) -> dict[str, Any]:
    """The first attempt gives up what it has collected; the second publishes."""
    with bulk():
        results = [fail.delay(0) for _ in range(count)]
        if self.request.attempt == 1:
            raise self.retry(countdown=0)
    fail.enqueue_many(((0,) for _ in range(count + 10)), size=7)
    return {"attempt": self.request.attempt, "ids": [result.id for result in results]}


@app.task(bind=True, name="narrow", base=Quick, autoretry_for=(OSError,), max_attempts=5)
def narrow(self: PgTask, how: str) -> int:
    if self.request.attempt < 3:
        raise {"ValueError": ValueError, "OSError": OSError, "FileExistsError": FileExistsError}[
            how
        ]
    return int(self.request.attempt)


@app.task(base=Quick, bind=True, dont_autoretry_for=(FileExistsError,), throws=(KeyError,))
def spare(self: PgTask, how: str) -> None:
    raise {"KeyError": KeyError, "FileExistsError": FileExistsError}[how]("x")


@app.task(bind=True, base=Broken, max_attempts=2)
def fail_without_backoff(self: PgTask) -> None:
    raise ValueError("x")


@app.task(bind=True, retry_backoff=1, retry_backoff_max=2, retry_jitter=False, max_attempts=3)
def fail_as_celery(self: PgTask) -> int:
    if self.request.attempt < 2:
        raise ValueError("x")
    return int(self.request.attempt)


@app.task(bind=True, max_attempts=3)
def retry(self: PgTask, times: int) -> int:
    """Retries explicitly."""
    if self.request.attempt <= times:
        raise self.retry(countdown=0.05, exc=ValueError("no more"))
    return int(self.request.attempt)


@app.task(bind=True, base=Quick)
def retry_twice(self: PgTask, how: str) -> None:
    """Retries explicitly, up to a limit of its own."""
    exc = ValueError("no more") if how == "exc" else None
    raise self.retry(countdown=0.05, max_retries=2, exc=exc)


class Parent(Quick):
    name = "parent"

    def run(self, how: str) -> str:
        raise ValueError(how)


class Heir(Parent):
    name = "heir"

    def run(self, how: str) -> str:
        try:
            return super().run(how)
        except ValueError as error:
            return f"handled {error} in attempt {self.request.attempt}"


parent = app.register_task(Parent())
heir = app.register_task(Heir())


@app.task(base=Quick, throws=KeyError)
def throw() -> None:
    """One class and not a tuple, which Celery takes as well."""
    raise KeyError("x")


@app.task(bind=True, base=Quick)
def snooze_badly(self: PgTask) -> int:
    if self.request.attempt == 1:
        raise Snooze(-1)
    return int(self.request.attempt)


@app.task(bind=True, max_attempts=1)
def end(self: PgTask, how: str) -> Any:
    """Ends as it is told."""
    soon = 0.05
    if how.startswith("snooze") and self.meta.get("snoozed", 0) >= 2:
        return self.request.attempt
    if how == "snooze":
        raise Snooze(soon)
    if how == "snooze returned":
        return self.snooze(timedelta(seconds=soon))
    if how == "snooze until":
        raise self.snooze(datetime.now(timezone.utc) + timedelta(seconds=soon))
    if how == "cancel":
        raise Cancel("not wanted")
    if how == "cancel returned":
        return self.cancel("not wanted")
    if how == "reject":
        raise Reject("no", requeue=False)
    raise NotImplementedError(how)


@app.task(bind=True)
def discard(self: PgTask) -> None:
    raise Discard("hopeless")


@app.task(bind=True, base=Quick, max_attempts=2)
def die(self: PgTask, path: str, times: int = 1) -> int:
    """Kills its process the first ``times`` times."""
    if append(path, os.getpid()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(self.request.attempt)


@app.task(bind=True, base=Quick, max_attempts=2)
def leave(self: PgTask, path: str, how: str = "exit") -> int:
    if append(path, os.getpid()) == 1:
        if how == "cancelled":
            raise asyncio.CancelledError
        sys.exit(1)
    return int(self.request.attempt)


@app.task(bind=True, base=Quick, max_attempts=2, time_limit=1)
def overrun(self: PgTask, path: str, times: int = 1) -> int:
    if append(path, os.getpid()) <= times:
        time.sleep(60)
    return int(self.request.attempt)


@app.task(bind=True, base=Quick, meta={"team": "mail"})
def note(self: PgTask) -> dict[str, Any]:
    """Notes something in its meta, in two attempts."""
    if self.request.attempt == 1:
        assert self.meta == {"team": "mail", "call": 1}
        self.meta["first"] = [1, {"ü": None}]
        self.meta.update(more=1, and_more=2)
        del self.meta["more"]
        raise ValueError("again")
    self.meta.refresh()
    return dict(self.meta)


@app.task(bind=True)
def hold(self: PgTask, started: str, release: str) -> str:
    append(started, os.getpid())
    wait_for_file(release)
    return "released"


@app.task(bind=True)
def watch(self: PgTask, started: str) -> str:
    """Runs until it is cancelled; says within how many calls it heard of it."""
    append(started, os.getpid())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if self.is_cancelled():
            raise Cancel("was told")
        time.sleep(0.01)
    return "was never told"


@app.task(bind=True, base=Quick)
def fail_when_told(self: PgTask, started: str) -> None:
    append(started, os.getpid())
    while not self.is_cancelled():
        time.sleep(0.01)
    raise ValueError("told")


@app.task
def on_error(task_id: str) -> str:
    """An errback as it is sent to a worker: Celery calls one with more parameters itself."""
    return task_id


@app.task
def add(x: float, y: float) -> float:
    return x + y


@app.task(bind=True)
def replace(self: PgTask, x: float) -> Any:
    raise self.replace(add.s(x, 1))


@app.task(bind=True)
def retry_when_told(self: PgTask, started: str) -> None:
    append(started, os.getpid())
    while not self.is_cancelled():
        time.sleep(0.01)
    raise self.retry(countdown=0)


@app.task(bind=True, rate_limit="1/m")
def limited(self: PgTask, path: str) -> None:
    append(path, self.request.id)


@app.task(name="paced", rate=Rate("3/s", by="tenant"), shared=False)
def paced(tenant: str) -> str:
    return tenant


@app.task(name="swapped", bind=True, shared=False)
def swapped(self: Any, tenant: str, queue: str | None = None) -> None:
    """Another task runs in its place, in that queue."""
    raise self.replace(paced.s(tenant).set(queue=queue) if queue else paced.s(tenant))


EXPORTS = Concurrency(1, by="path", name="exports")


@app.task(name="exported", concurrency=EXPORTS, shared=False)
def exported(path: str) -> str:
    begun = time.time()
    time.sleep(0.05)
    append(path, json.dumps({"from": begun, "to": time.time()}))
    return path


@app.task(name="exporting", bind=True, concurrency=EXPORTS, shared=False)
def exporting(self: Any, path: str, how: str) -> None:
    """Other tasks that count for the same limit run in its place."""
    one = exported.si(path).set(queue=self.request.delivery_info["routing_key"])
    steps = {"task": one, "chain": chain(one, one), "chord": chord([one, one], one)}
    raise self.replace(steps[how])


@app.task(name="shared", rate=Rate("200/s", name="shared"), shared=False)
def shared() -> None: ...


@app.task(name="again", bind=True, concurrency=Concurrency(1, by="tenant"), cost=1, shared=False)
def again(self: Any, tenant: str) -> int:
    """Retries itself, fails, and snoozes, before it ends."""
    if self.request.attempt == 1:
        raise self.retry(countdown=0)
    if self.request.attempt == 2:
        raise ValueError(tenant)
    if not self.meta.get("snoozed"):
        raise self.snooze(0)
    return self.request.attempt
