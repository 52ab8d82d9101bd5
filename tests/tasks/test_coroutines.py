"""A coroutine runs to its end in a thread's own event loop, and hears of what interrupts that."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from pgjobs_celery import PgTask
from pgjobs_celery.errors import CoroutineCancelled
from pgjobs_celery.tasks.coroutines import ThreadLoop, complete, prepare_task
from pgjobs_celery.tasks.plain import is_coroutine


@pytest.fixture
def app() -> Celery:
    return Celery("coroutines", broker="memory://", backend="cache+memory://", set_as_current=False)


async def nap(value: Any, seconds: float = 0.0) -> Any:
    await asyncio.sleep(seconds)
    return value


def test_it_returns_what_the_coroutine_returns_and_raises_what_it_raises():
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("missing")

    assert complete(nap(7)) == 7
    with pytest.raises(KeyError, match="missing"):
        complete(fail())


def test_the_loop_of_a_thread_is_kept_and_is_its_own():
    async def loop() -> Any:
        return asyncio.get_running_loop()

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(complete(loop())))
    thread.start()
    thread.join()

    assert complete(loop()) is complete(loop()) is not found[0]


def test_a_loop_goes_with_its_thread():
    found: list[Any] = []

    async def loop() -> None:
        found.append(asyncio.get_running_loop())

    thread = threading.Thread(target=lambda: complete(loop()))
    thread.start()
    thread.join()

    assert found[0].is_closed()


def test_what_interrupts_the_loop_is_raised_in_the_coroutine():
    steps: list[str] = []
    loop = ThreadLoop()

    async def interrupted() -> str:
        def interrupt() -> None:
            raise KeyboardInterrupt  # as the handler of a signal would, anywhere in the loop

        asyncio.get_running_loop().call_soon(interrupt)
        try:
            await asyncio.sleep(60)
        except KeyboardInterrupt:
            steps.append("except")
            await asyncio.sleep(0)
            return "ended"
        return ""

    assert loop.run(interrupted()) == "ended"
    assert steps == ["except"]
    loop.close()


def test_a_limit_that_hits_a_callback_of_the_loop_reaches_the_coroutine():
    loop = ThreadLoop()

    async def limited() -> str:
        def limit() -> None:
            raise SoftTimeLimitExceeded(1)

        asyncio.get_running_loop().call_soon(limit)
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            return "limited"
        return ""

    assert loop.run(limited()) == "limited"
    loop.close()


def test_a_cancellation_of_its_own_making_is_an_error():
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(CoroutineCancelled):
        complete(cancelled())


def test_it_runs_within_a_running_loop_too():
    async def program() -> Any:
        return complete(nap(5, 0.01))

    assert asyncio.run(program()) == 5


def test_a_pgtask_runs_eagerly(app: Celery):
    @app.task(base=PgTask, bind=True, shared=False)
    async def double(self: PgTask, number: int) -> list[Any]:
        await asyncio.sleep(0)
        self.meta["seen"] = await self.meta.aget("seen", 0) + 1
        await self.meta.aset("more", 2)
        return [number * 2, await self.ais_cancelled(), dict(self.meta)]

    expected = [4, False, {"seen": 1, "more": 2}]

    async def program() -> Any:
        return double.apply((2,)).get()

    assert double.apply((2,)).get() == expected
    assert asyncio.run(program()) == expected


def test_a_task_that_is_called_by_itself_is_awaited(app: Celery):
    @app.task(base=PgTask, shared=False)
    async def one() -> int:
        return 1

    @app.task(shared=False)
    async def two() -> int:
        return await one() + 1

    prepare_task(two)

    assert asyncio.run(two()) == 2
    assert two.apply().get() == 2


@pytest.mark.parametrize(
    ("run", "expected"), [(nap, True), (print, False), (lambda: nap(1), False), (max, False)]
)
def test_coroutines_are_told_from_functions(run: Any, expected: bool):
    assert is_coroutine(run) is expected
