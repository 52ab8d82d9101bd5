"""Tasks that are coroutines: what they see of themselves, and how they end."""

from __future__ import annotations

import os

if os.environ.get("PGJOBS_TEST_PATCH"):
    from gevent import monkey

    monkey.patch_all()

import asyncio
import json
import random
import threading
import time
from contextvars import ContextVar
from typing import Any

from celery import Celery, current_task, signals

from pgjobs_celery import PgTask, adelay

from .tasks import URL

app = Celery("tests.e2e.coroutine_tasks", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))

#: Set by the receiver of a signal, read in the task and in what it begins.
seen: ContextVar[str] = ContextVar("seen", default="")


@signals.task_prerun.connect
def note(task_id: str, **_: Any) -> None:
    seen.set(task_id)


@app.task(bind=True)
async def look(self: Any, number: int) -> list[int]:
    """Fails where anything that it sees, at any time, is another task's."""

    def check() -> None:
        assert self.request.args == [number]
        assert current_task.request.id == self.request.id == seen.get()

    async def child() -> int:
        check()
        await asyncio.sleep(random.random() / 50)
        check()
        return number

    check()
    found = await asyncio.gather(child(), asyncio.create_task(child()), child())
    await asyncio.sleep(random.random() / 50)
    check()
    return found


@app.task
async def add(x: int, y: int) -> int:
    await asyncio.sleep(0)
    return x + y


@app.task
async def tsum(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True)
async def publish_children(self: Any) -> list[str]:
    """A job from the task, one from what it has begun, two from threads."""

    async def begun() -> str:
        return str(add.delay(1, 1).id)

    return [
        add.delay(1, 1).id,
        await asyncio.create_task(begun()),
        (await adelay(add, 1, 1)).id,
        (await asyncio.to_thread(add.delay, 1, 1)).id,
    ]


@app.task(bind=True)
async def see_itself_in_threads(self: Any) -> list[bool]:
    """Of threads that asyncio has for it: whether each sees this task."""

    def look() -> bool:
        time.sleep(0.01)
        return bool(self.request.id == current_task.request.id == own)

    own = self.request.id
    loop = asyncio.get_running_loop()
    begun = asyncio.create_task(asyncio.to_thread(look))
    return [await asyncio.to_thread(look), await loop.run_in_executor(None, look), await begun]


@app.task(bind=True)
async def tell_progress(self: Any, release: str) -> None:
    await asyncio.to_thread(self.update_state, state="PROGRESS", meta={"done": 1})
    while not os.path.exists(release):
        await asyncio.sleep(0.01)


@app.task(bind=True, max_retries=3)
async def retry_twice(self: Any) -> int:
    await asyncio.sleep(0.01)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task(bind=True)
async def replaced(self: Any) -> Any:
    raise self.replace(add.s(20, 22))


@app.task(base=PgTask, bind=True, max_attempts=2)
async def attempt_twice(self: Any) -> int:
    await asyncio.sleep(0.01)
    if self.request.attempt == 1:
        raise ValueError("the first attempt")
    return int(self.request.attempt)


attempt_twice.backoff = lambda job: 0.1


@app.task(base=PgTask, bind=True)
async def annotate(self: Any, what: str) -> Any:
    if what == "snooze" and not await self.meta.aget("snoozed"):
        await self.meta.aset("snoozed", True)
        raise self.snooze(0.1)
    if what == "cancel":
        raise self.cancel("as it was told")
    await self.meta.aupdate(done=50, of=100)
    return dict(self.meta)


def tell_of_begin() -> None:
    print(f"began {current_task.request.id}", flush=True)


@app.task
async def wait(seconds: float = 60) -> str:
    """Says in the log that it has begun, and how it ends."""
    tell_of_begin()
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print("wait: cancelled", flush=True)
        raise
    finally:
        await asyncio.sleep(0.01)
        print("wait: cleaned up", flush=True)
    return "slept"


@app.task
async def go_on_all_the_same() -> str:
    tell_of_begin()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.01)
    return "all the same"


@app.task
async def never_end() -> None:
    tell_of_begin()
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            print("never_end: goes on", flush=True)


@app.task(soft_time_limit=0.3)
async def catch_limit() -> str:
    try:
        await asyncio.sleep(60)
    except Exception as error:
        await asyncio.sleep(0.01)
        return type(error).__name__
    return ""


@app.task(time_limit=0.3)
async def exceed_limit() -> None:
    await never_end.run()


@app.task(base=PgTask, bind=True, time_limit=0.3, max_attempts=2)
async def exceed_once(self: Any) -> int:
    await asyncio.sleep(60 if self.request.attempt == 1 else 0)
    return int(self.request.attempt)


exceed_once.backoff = lambda job: 0.1


@app.task
async def cancel_own_child() -> None:
    child = asyncio.create_task(asyncio.sleep(60))
    child.cancel()
    await child


@app.task
async def cancel_at_once() -> str:
    child = asyncio.create_task(asyncio.sleep(60))
    child.cancel()
    [error] = await asyncio.gather(child, return_exceptions=True)
    return type(error).__name__


@app.task
async def forget_child() -> None:
    asyncio.create_task(asyncio.sleep(3), name="forgotten")  # noqa: RUF006


@app.task
async def block(seconds: float) -> None:
    time.sleep(seconds)


@app.task
async def leave() -> None:
    raise SystemExit(3)


@app.task
def in_a_thread() -> list[Any]:
    async def inside() -> int:
        await asyncio.sleep(0.01)
        return 7

    return [asyncio.run(inside()), threading.current_thread().name]


@app.task
async def loop_number() -> int:
    """The same for each task that runs in the same event loop."""
    return id(asyncio.get_running_loop())


@app.task(autoretry_for=(OSError,), max_retries=2, default_retry_delay=0)
async def retried_by_celery() -> None:
    await asyncio.sleep(0.01)
    raise OSError("not there")


@app.task
async def fail() -> None:
    await asyncio.sleep(0)
    raise KeyError("its errbacks hear of it")


@app.task
async def hear(request: Any, error: Exception, traceback: str) -> None:
    """Celery calls it by itself, where the other has failed."""
    await asyncio.sleep(0.01)
    print(f"hear: {request.id} {error!r}", flush=True)


@app.task(base=PgTask)
async def hear_as_pgtask(request: Any, error: Exception, traceback: str) -> None:
    await asyncio.sleep(0.01)
    print(f"hear: {request.id} {error!r}", flush=True)


@app.task
async def hear_by_id(task_id: str) -> None:
    await asyncio.sleep(0.01)
    print(f"hear_by_id: {task_id}", flush=True)
