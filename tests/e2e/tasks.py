"""The app that the end-to-end tests' workers run, and the tasks they are given.

A worker is told what it is to be by its environment (see conftest.py):

- ``PGJOBS_TEST_URL``: broker and backend;
- ``PGJOBS_TEST_CONF``: more settings, as JSON;
- ``PGJOBS_TEST_READY``: a file descriptor to write to when it is ready;
- ``PGJOBS_TEST_FAULT``: where it is to die (see faults.py);
- ``PGJOBS_TEST_GRACE``: after how many seconds its beat takes a tick for missed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from billiard import current_process
from celery import Celery, Task, chord, group
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import worker_ready

from pgjobs_celery import PgTask, bulk, using
from pgjobs_celery.db.dsn import parse_url

from . import faults  # noqa: F401 - kills where it is told to

URL = os.environ.get("PGJOBS_TEST_URL")

app = Celery("tests.e2e", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))

if grace := os.environ.get("PGJOBS_TEST_GRACE"):
    from pgjobs_celery.beat import scheduler

    scheduler.GRACE = float(grace)  # type: ignore[misc]


@worker_ready.connect
def report_ready(**_: Any) -> None:
    """Tell the test that waits: an event instead of a guess."""
    descriptor = os.environ.get("PGJOBS_TEST_READY")
    if descriptor:
        os.write(int(descriptor), b"ready\n")


class CustomError(Exception):
    """An exception of the project's own, with data in it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.message, self.code = message, code


class UnpicklableError(Exception):
    """Cannot be rebuilt from its arguments, as third-party exceptions often cannot."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"because of {reason}")


# Results


@app.task
def add(x: float, y: float) -> float:
    return x + y


@app.task(bind=True)
def tell_property(self: Task, name: str, retries: int = 0) -> object:
    """A property of the message, as the worker has it; of that of its first run, if it retries."""
    if self.request.retries < retries:
        raise self.retry(countdown=0, **{name: self.request.properties.get(name)})
    return self.request.properties.get(name)


@app.task
def relay(number: int) -> str:
    """Publishes another task."""
    return str(add.delay(number, 1).id)


@app.task
def tell_time() -> float:
    return time.time()


@app.task
def tsum(numbers: Sequence[float]) -> float:
    return sum(numbers)


@app.task
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """What came in, so that a test sees whether it came through unchanged."""
    return {"args": list(args), "kwargs": kwargs}


@app.task
def size(data: bytes | str) -> int:
    """How much came through; for bodies that are large, binary, or hold NUL."""
    return len(data)


@app.task
def big(length: int, seconds: float = 0.0) -> str:
    time.sleep(seconds)
    return "x" * length


@app.task
def identity(value: Any) -> Any:
    return value


@app.task(ignore_result=True)
def ignored(path: str, line: str = "ran") -> str:
    """No result is stored: the file tells that it ran."""
    append(path, line)
    return "never seen"


@app.task(bind=True)
def report_progress(self: Task, path: str | None = None) -> str:
    """Reports a state of its own; with a path, waits there until the file exists."""
    self.update_state(state="PROGRESS", meta={"done": 1, "total": 2})
    if path:
        wait_for_file(path)
    return "done"


@app.task(bind=True)
def request_info(self: Task) -> dict[str, Any]:
    """How the request looks from inside."""
    request = self.request
    return {
        "id": request.id,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "group": request.group,
        "retries": request.retries,
        "eta": request.eta,
        "redelivered": (request.delivery_info or {}).get("redelivered"),
        "priority": (request.delivery_info or {}).get("priority"),
        "routing_key": (request.delivery_info or {}).get("routing_key"),
        "hostname": request.hostname,
        "pid": os.getpid(),
        "headers": request.headers,
    }


# Failures


@app.task
def fail(message: str = "no", code: int = 7) -> None:
    raise CustomError(message, code)


@app.task
def fail_builtin(message: str = "no such key") -> None:
    raise KeyError(message)


@app.task
def fail_unpicklable() -> None:
    raise UnpicklableError(reason="the weather")


@app.task
def return_unserializable() -> object:
    return object()


@app.task(bind=True, max_retries=10)
def retry(self: Task, times: int, countdown: float = 0.0) -> int:
    """Fails ``times`` times, then returns how often it has been retried."""
    if self.request.retries < times:
        error = CustomError("again", self.request.retries)
        raise self.retry(exc=error, countdown=countdown)
    return int(self.request.retries)


@app.task(bind=True, max_retries=1)
def retry_in_vain(self: Task, countdown: float = 0.0) -> None:
    raise self.retry(exc=CustomError("in vain", self.request.retries), countdown=countdown)


@app.task(autoretry_for=(CustomError,), max_retries=2, retry_backoff=False, default_retry_delay=0)
def autoretry() -> None:
    raise CustomError("automatically", 0)


@app.task(bind=True, acks_late=True)
def reject(self: Task, requeue: bool = False) -> str:
    """Rejects its first delivery."""
    if requeue and self.request.delivery_info.get("redelivered"):
        return "second delivery"
    raise Reject("not mine", requeue=requeue)


@app.task(bind=True, acks_late=True)
def store_success_and_reject(self: Task, path: str, value: Any) -> Any:
    """Stores its own SUCCESS, and has its message put back: its second run should be left out."""
    if append(path, "ran") == 1:
        self.backend.store_result(self.request.id, value, "SUCCESS", request=self.request)
        raise Reject("once more", requeue=True)
    return "second run"


@app.task
def reject_early() -> str:
    """Rejects what was acknowledged when it began."""
    raise Reject("too late")


@app.task(store_errors_even_if_ignored=True)
def fail_kept() -> None:
    raise CustomError("no", 3)


@app.task
def show_all(values: list[object]) -> list[object]:
    return values


@app.task(bind=True)
def end_unstored(self: Task, how: str, states: Sequence[str] = ()) -> str:
    """Stores the states, and ends in a way of which nothing is stored, as a rule."""
    if how.startswith("retry and ") and not self.request.retries:
        if isinstance(self, PgTask):
            raise CustomError("first", 1)
        raise self.retry(countdown=0, exc=CustomError("first", 1))
    for state in states:
        self.update_state(state=state, meta={"said": state})
    how = how.replace("retry and ", "")
    if how == "return":
        return "never seen"
    raise {"reject": Reject("no", requeue=False), "fail": CustomError("no", 2)}.get(how, Ignore())


_end_unstored = end_unstored.run.__func__
end_unstored_late = app.task(
    bind=True, acks_late=True, name=f"{end_unstored.name}_late", shared=False
)(_end_unstored)
end_unstored_pgtask = app.task(
    bind=True, base=PgTask, name=f"{end_unstored.name}_pgtask", shared=False,
    retry_kwargs={"countdown": 0}, max_attempts=2,
)(_end_unstored)  # fmt: skip


@app.task
def ignore() -> None:
    raise Ignore


@app.task(acks_late=True)
def ignore_late() -> None:
    raise Ignore


@app.task(acks_late=True)
def fail_late(message: str = "no", code: int = 7) -> None:
    raise CustomError(message, code)


@app.task(acks_late=True, acks_on_failure_or_timeout=False)
def fail_unacknowledged() -> None:
    raise CustomError("not acknowledged", 1)


@app.task(bind=True, max_retries=10, acks_late=True)
def retry_late(self: Task, times: int, countdown: float = 0.0) -> int:
    if self.request.retries < times:
        error = CustomError("again", self.request.retries)
        raise self.retry(exc=error, countdown=countdown)
    return int(self.request.retries)


# Time


@app.task
def sleep(seconds: float, path: str | None = None) -> float:
    """Takes its time; writes its process id to ``path`` first."""
    if path:
        append(path, os.getpid())
    time.sleep(seconds)
    return seconds


@app.task(acks_late=True)
def sleep_late(seconds: float, path: str | None = None) -> float:
    if path:
        append(path, os.getpid())
    time.sleep(seconds)
    return seconds


@app.task(acks_late=True)
def block_late(seconds: float) -> float:
    """Waits as a library in C does: no other greenlet runs meanwhile."""
    ctypes.CDLL(None).usleep(int(seconds * 1_000_000))
    return seconds


@app.task
def hold(started: str, release: str) -> str:
    """Runs until the file ``release`` exists; ``started`` gets a line when it begins."""
    append(started, os.getpid())
    wait_for_file(release)
    return "released"


@app.task(acks_late=True)
def hold_late(started: str, release: str) -> str:
    append(started, os.getpid())
    wait_for_file(release)
    return "released"


@app.task(acks_late=True)
def hold_and_fail_late(started: str, release: str) -> None:
    """As ``hold_late``, but fails."""
    append(started, os.getpid())
    wait_for_file(release)
    raise CustomError("held long enough", 7)


@app.task(track_started=True)
def hold_tracked(started: str, release: str) -> str:
    """As ``hold``, and its result says STARTED while it runs."""
    append(started, os.getpid())
    wait_for_file(release)
    return "released"


@app.task(acks_late=True, acks_on_failure_or_timeout=False)
def hang_once(path: str) -> str:
    """Hangs in its first run; a time limit that kills it does not acknowledge it."""
    if append(path, os.getpid()) == 1:
        time.sleep(60)
    return "second run"


@app.task
def stop_softly(path: str) -> str:
    """Gives up when its soft time limit says so."""
    append(path, os.getpid())
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "stopped"
    return "never"


# Traces


@app.task
def record(path: str, value: Any) -> Any:
    """Appends a line of JSON: which value, in which process, when."""
    append(path, json.dumps({"value": value, "pid": os.getpid(), "at": time.time()}))
    return value


@app.task(bind=True)
def record_host(self: Task, path: str, value: Any) -> None:
    append(path, f"{self.request.hostname} {value}")


@app.task(acks_late=True)
def record_late(path: str, value: Any) -> Any:
    append(path, json.dumps({"value": value, "pid": os.getpid(), "at": time.time()}))
    return value


@app.task
def record_sum(numbers: Sequence[float], path: str) -> float:
    append(path, json.dumps(numbers))
    return sum(numbers)


@app.task
def record_span(path: str, seconds: float) -> None:
    """Takes its time, and appends a line of JSON: from when to when."""
    begun = time.time()
    time.sleep(seconds)
    append(path, json.dumps({"pid": os.getpid(), "from": begun, "to": time.time()}))


@app.task(ignore_result=True)
def record_span_ignored(path: str, seconds: float) -> None:
    record_span(path, seconds)


# Deaths


@app.task
def die(path: str | None = None, number: int = signal.SIGKILL) -> None:
    """Kills the process it runs in, having been acknowledged before."""
    if path:
        append(path, os.getpid())
    os.kill(os.getpid(), number)


@app.task(acks_late=True)
def die_late(path: str | None = None, number: int = signal.SIGKILL) -> None:
    if path:
        append(path, os.getpid())
    os.kill(os.getpid(), number)


@app.task(acks_late=True, reject_on_worker_lost=True)
def die_writing(started: str, release: str) -> None:
    """Dies while it writes to the pool: half a message is left."""
    append(started, os.getpid())
    wait_for_file(release)
    os.write(current_process().outq._writer.fileno(), struct.pack("!i", 100) + b"half")
    time.sleep(1.5)  # until the pool has looked, which it does twice in a second for each child
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True)
def die_and_come_back(path: str, times: int = 1) -> str:
    """Kills its process the first ``times`` times; the lines in ``path`` count the runs."""
    if append(path, os.getpid()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


class DiesAfterwards(Task):
    """Kills its process, the first time, when it has returned and its chain's next step has run."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        first, following = args
        if append(first, os.getpid()) == 1:
            wait_for_file(following)
            os.kill(os.getpid(), signal.SIGKILL)


@app.task(base=DiesAfterwards, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def die_afterwards(path: str, following: str) -> str:
    return "survived"


@app.task(bind=True)
def retry_and_die(self: Task, path: str) -> str:
    """Its retry is published, and then its process dies."""
    if append(path, os.getpid()) == 1:
        self.retry(countdown=0.2, throw=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return "second run"


@app.task(bind=True, retry_on_worker_lost=True, max_retries=2, default_retry_delay=0.1)
def die_and_retry(self: Task, path: str, times: int = 1) -> int:
    """Kills its process the first ``times`` times; says in which retry it did not."""
    if append(path, os.getpid()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(self.request.retries)


@app.task
def leave(code: int = 1) -> None:
    sys.exit(code)


# Children


@app.task(bind=True)
def publish_child(self: Task, x: float, y: float) -> str:
    """Publishes a task from inside a task, out of a pool child."""
    return str(add.apply_async((x, y)).id)


@app.task
def publish_many(path: str, count: int) -> list[str]:
    """Publishes ``count`` tasks that record their number."""
    return [str(record.delay(path, number).id) for number in range(count)]


@app.task(bind=True)
def extend(self: Task, x: float, y: float) -> float:
    """Adds a task to the chord that it is part of."""
    self.add_to_chord(add.si(x, y))
    return 0.0


@app.task(bind=True)
def replace_by_group(self: Task, count: int) -> Any:
    """Replaces itself by a group: what it is part of gets a list."""
    return self.replace(group(add.si(number, 1) for number in range(count)))


@app.task(bind=True)
def replace_by_chain(self: Task, started: str, release: str) -> Any:
    """Replaces itself by a chain whose first task waits for the file ``release``."""
    return self.replace(hold.si(started, release) | add.si(1, 2))


class Lingers(Task):
    """Has replaced itself, and does not end before the last of the others has run."""

    def on_replace(self, sig: Any) -> Any:
        try:
            return super().on_replace(sig)
        finally:
            wait_for_file(self.request.args[0], 10)


@app.task(bind=True, base=Lingers)
def replace_and_linger(self: Task, path: str, by: str) -> Any:
    last = record.si(path, by)
    return self.replace(ending_in(last, by))


def ending_in(last: Any, by: str) -> Any:
    """A canvas of this kind whose last task is that."""
    header = group(add.si(1, 2), add.si(3, 4) | add.s(5))
    return {
        "task": last,
        "chain": add.si(1, 2) | last,
        "chord": header | last,
        "chord in a chain": add.si(1, 2) | header | add.si(5, 6) | last,
        "chord in a chord": chord([header | tsum.s(), add.si(1, 2)], last),
    }[by]


@app.task(bind=True)
def replace_in_block(self: Task, path: str, by: str, block: str) -> Any:
    """What it publishes for others is taken back by the exception that ends it; not so this."""
    with connect() as connection, using(connection) if block == "using" else bulk():
        record.delay(path, "not to be")
        return self.replace(ending_in(record.si(path, by), by))


@app.task(bind=True)
def extend_in_vain(self: Task, x: float) -> float:
    """Adds a task to the chord that it is part of, in a transaction that is rolled back."""
    with connect() as connection, using(connection):
        self.add_to_chord(add.si(x, x))
        connection.rollback()
    return x


def connect() -> psycopg.Connection[Any]:
    """A connection of the task's own."""
    return psycopg.connect(parse_url(app.conf.broker_url))


@app.task(bind=True)
def replace_by_failure(self: Task) -> Any:
    return self.replace(fail.si() | add.si(1, 2))


@app.task
def note_failure(request: Any, exc: BaseException, traceback: Any, path: str) -> None:
    """An errback of the new kind: it is called where the failure is noticed."""
    append(path, f"{request.id} {exc!r}")


@app.task(bind=True)
def replace(self: Task, x: float, y: float) -> Any:
    return self.replace(add.si(x, y))


def append(path: str, line: object) -> int:
    """Add a line and return how many there are; one write, so that processes do not mix."""
    with open(path, "a") as file:
        file.write(f"{line}\n")
    return len(Path(path).read_text().splitlines())


def wait_for_file(path: str, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not appear within {timeout} s")
        time.sleep(0.02)
