"""asyncio programs publish and wait, and their loops go on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TimeoutError as CeleryTimeoutError

from pgjobs_celery import aapply_async, adelay, aget

from ..support.busyness import Stopwatch
from ..support.waiting import wait_for
from . import pgtasks, tasks
from .conftest import StartWorker, Worker

T = TypeVar("T")


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", autouse=True)
def running(module_worker: StartWorker) -> Worker:
    """A worker for the plain tasks, and one for PgTasks."""
    module_worker(app="tests.e2e.pgtasks", queues=["pg"], pool="threads")
    return module_worker(concurrency=2)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that waits goes at once when nobody waits."""
    monkeypatch.setattr("pgjobs_celery.results.aio.LINGER", 0.0)


def run(work: Awaitable[T]) -> T:
    """The work, in an event loop that must never stand still for long."""

    async def watched() -> T:
        worst, ticking = 0.0, True

        async def tick() -> None:
            nonlocal worst
            while ticking:
                watch = Stopwatch()
                await asyncio.sleep(0.01)
                if watch.elapsed() - 0.01 > worst:
                    # Less what others on the machine have taken from it.
                    worst = max(worst, watch.own() - 0.01)

        ticker = asyncio.ensure_future(tick())
        try:
            return await asyncio.wait_for(work, 30)
        finally:
            ticking = False
            await ticker
            # A wait on the loop would last as long as what is waited for; a busy machine less.
            assert worst < 1.0, f"the loop stood still for {worst:.2f} s"

    return asyncio.run(watched())


def test_a_task_is_published_and_its_result_awaited(app: Celery):
    async def work() -> list[Any]:
        result = await adelay(tasks.add, 1, 2)
        other = await aapply_async(tasks.add, (1,), {"y": 3}, countdown=0.1)
        return [await aget(result, timeout=10), await aget(other), await aget(result)]

    assert run(work()) == [3, 4, 3]


def test_a_pgtask_and_its_handle_know_it_themselves(pgtask_app: Celery):
    async def work() -> Any:
        result = await pgtasks.add.aapply_async((1, 2), queue="pg", tags=["x"])
        return await result.aget(timeout=10)

    assert run(work()) == 3


def test_a_thousand_results_are_awaited_at_once_by_one_thread(app: Celery):
    async def one(number: int) -> Any:
        return await aget(await adelay(tasks.add, number, 1), timeout=30)

    async def work() -> tuple[list[Any], int]:
        results = asyncio.gather(*(one(number) for number in range(1000)))
        most = 0
        while not results.done():
            names = [thread.name for thread in threading.enumerate()]
            most = max(most, names.count("pgjobs-results"))
            await asyncio.sleep(0.02)
        return await results, most

    wait_for(lambda: not any(each.name == "pgjobs-results" for each in threading.enumerate()))
    results, threads = run(work())
    assert results == list(range(1, 1001))
    # One may end, for want of work, while the next has begun.
    assert threads <= 2


def test_every_canvas_can_be_awaited(app: Celery):
    async def work() -> list[Any]:
        add = tasks.add
        return [
            await aget(await adelay(canvas), timeout=10)
            for canvas in (
                group(add.s(1, 1), add.s(2, 2)),
                chord([add.s(1, 1), add.s(2, 2)], tasks.tsum.s()),
                chain(add.s(1, 1), add.s(2)),
                group(),
            )
        ]

    assert run(work()) == [[2, 4], 6, 4, []]


def test_an_exception_is_raised_where_it_is_awaited(app: Celery):
    async def work() -> Any:
        result = await adelay(tasks.fail, "no", 7)
        with pytest.raises(tasks.CustomError, match="no"):
            await aget(result, timeout=10)
        return await aget(result, propagate=False)

    assert isinstance(run(work()), tasks.CustomError)


def test_a_first_step_that_fails_is_raised(app: Celery):
    async def work() -> None:
        result = await adelay(chain(tasks.fail.si("first"), tasks.add.si(1, 1)))
        with pytest.raises(tasks.CustomError, match="first"):
            await aget(result, timeout=10)

    run(work())


def test_waiting_ends_after_its_time_and_can_be_given_up(app: Celery, tmp_path: Path):
    async def work() -> Any:
        result = await adelay(tasks.hold, str(tmp_path / "started"), str(tmp_path / "release"))
        with pytest.raises(CeleryTimeoutError):
            await aget(result, timeout=0.2)
        waiting = asyncio.ensure_future(aget(result))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (tmp_path / "release").touch()
        return await aget(result, timeout=10)

    assert run(work()) == "released"


def test_a_result_that_is_ignored_is_not_waited_for(app: Celery, tmp_path: Path):
    async def work() -> Any:
        return await aget(await adelay(tasks.ignored, str(tmp_path / "ran")))

    assert run(work()) is None
    wait_for((tmp_path / "ran").exists)


def test_loops_one_after_the_other_and_side_by_side(app: Celery):
    async def work() -> Any:
        return await aget(await adelay(tasks.add, 1, 2), timeout=10)

    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(run(work()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert [run(work()) for _ in range(3)] == [3, 3, 3]
    for thread in threads:
        thread.join(30)
    assert answers == [3, 3, 3]


def test_threads_that_wait_and_a_loop_that_awaits_share_the_connection(app: Celery):
    async def work() -> list[Any]:
        return [await aget(await adelay(tasks.add, n, 1), timeout=10) for n in range(20)]

    answers: list[Any] = []

    def get() -> None:
        answers.extend(tasks.add.delay(number, 1).get(timeout=10) for number in range(20))

    thread = threading.Thread(target=get)
    thread.start()
    assert run(work()) == list(range(1, 21))
    thread.join(30)
    assert answers == list(range(1, 21))


def test_the_thread_goes_when_nobody_waits(app: Celery):
    async def work() -> Any:
        return await aget(await adelay(tasks.add, 1, 2), timeout=10)

    assert run(work()) == 3
    wait_for(lambda: "pgjobs-results" not in {thread.name for thread in threading.enumerate()})
    assert run(work()) == 3
