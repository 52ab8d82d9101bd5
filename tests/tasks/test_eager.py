"""Plain ``async def`` tasks run to their end in eager mode, whenever they were made."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery, Task, chain, chord, group

from pgjobs_celery.testing import perform_job, testing

#: Nothing listens there, and nothing asks.
NOWHERE = "pgjobs://nobody@127.0.0.1:1/none"


def make_app(url: str = NOWHERE) -> Celery:
    app = Celery("eager", broker=url, backend="cache+memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    return app


@pytest.fixture
def app() -> Celery:
    return make_app()


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(shared=False, name="add")
    async def add(x: int, y: int) -> int:
        await asyncio.sleep(0)
        return x + y

    return add


def test_delay_apply_and_canvas_have_its_result(app: Celery, add: Any):
    tsum = app.task(shared=False, name="tsum")(sum_them)

    assert add.delay(1, 2).get() == 3
    assert add.apply((1, 2)).get() == 3
    assert chain(add.s(1, 2), add.s(3), app=app)().get() == 6
    assert group([add.s(n, n) for n in range(3)], app=app)().get() == [0, 2, 4]
    assert chord([add.s(n, 1) for n in range(3)], tsum.s(), app=app)().get() == 6


async def sum_them(numbers: list[int]) -> int:
    return sum(numbers)


def test_a_task_that_comes_after_the_app_was_finalized_is_one_of_them(app: Celery):
    app.finalize()

    @app.task(shared=False, bind=True)
    async def late(self: Any) -> bool:
        await asyncio.sleep(0)
        return bool(self.request.is_eager)

    assert late.delay().get() is True


def test_a_class_and_a_base_of_ones_own_are_too(app: Celery):
    class Base(Task):
        pass

    class Registered(Task):
        name = "registered"

        async def run(self) -> str:
            await asyncio.sleep(0)
            return str(self.request.id)

    based = app.task(shared=False, base=Base, name="based")(sum_them)
    registered = app.register_task(Registered())

    assert based.delay([1, 2]).get() == 3
    assert registered.apply(task_id="7").get() == "7"


def test_autoretry_and_retry_see_what_the_coroutine_raises(app: Celery):
    runs: list[int] = []

    @app.task(shared=False, autoretry_for=(KeyError,), default_retry_delay=0)
    async def twice() -> int:
        await asyncio.sleep(0)
        runs.append(len(runs))
        if len(runs) < 3:
            raise KeyError(len(runs))
        return len(runs)

    app.conf.task_eager_propagates = False
    assert twice.delay().get() == 3


def test_within_a_running_loop_too(add: Any):
    async def program() -> Any:
        return add.delay(1, 2).get(), await add(3, 4)

    assert asyncio.run(program()) == (3, 7)


def test_one_that_is_called_by_itself_gives_its_coroutine(add: Any):
    coroutine = add(1, 2)

    assert inspect.iscoroutine(coroutine)
    assert asyncio.run(coroutine) == 3


def test_in_an_app_of_another_broker_nothing_is_changed():
    @make_app("memory://").task(shared=False)
    async def foreign() -> int:
        return 1

    coroutine = foreign.delay().get()
    assert inspect.iscoroutine(coroutine)
    coroutine.close()


def test_testing_runs_it_as_a_worker_would_and_apply_eagerly(app: Celery, add: Any):
    with testing(app, mode="inline"):
        assert add.delay(1, 2).get() == 3
        assert add.apply((1, 2)).get() == 3
    assert perform_job(add, [1, 2]).get() == 3


#: What leads to us in a program that has our name in its URL only.
PROGRAM = """
import asyncio
from celery import Celery, shared_task
{first}
app = Celery(broker="{url}", backend="{url}")
app.conf.update(task_always_eager=True)
app.set_current()

@app.task
async def add(x, y):
    await asyncio.sleep(0)
    return x + y

@shared_task
async def shared(x):
    return x

print({call}.get(), shared.delay(4).get())
"""


@pytest.mark.parametrize(
    ("first", "call"),
    [
        ("", "add.delay(1, 2)"),
        ("", "add.apply_async((1, 2))"),
        ("from pgjobs_celery import adelay", "add.apply((1, 2))"),
    ],
)
def test_a_program_needs_no_more_than_the_url_to_publish(first: str, call: str):
    program = PROGRAM.format(first=first, call=call, url=NOWHERE)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("3 4\n", "")


def test_no_coroutine_is_left_unawaited(add: Any, recwarn: pytest.WarningsRecorder):
    add.delay(1, 2).get()
    gc.collect()

    assert [str(each.message) for each in recwarn if "never awaited" in str(each.message)] == []
