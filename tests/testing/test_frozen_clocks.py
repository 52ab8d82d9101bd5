"""Programs whose clock a test has stopped: what waits ends all the same, at its time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeoutError

from pgjobs_celery import PgTask
from pgjobs_celery.results.aio import aget
from pgjobs_celery.testing import (
    advance,
    assert_enqueued,
    drain_queue,
    due,
    perform_job,
    refute_enqueued,
    testing,
)

from ..conftest import close_app

freezegun = pytest.importorskip("freezegun", reason="freezegun is not installed: extra test")
time_machine = pytest.importorskip("time_machine", reason="time-machine is not installed")
pytestmark = pytest.mark.timeout(60)

AT = datetime(2031, 5, 17, 12, tzinfo=timezone.utc)
Freeze = Callable[[], AbstractContextManager[Any]]


def freeze_by_freezegun() -> AbstractContextManager[Any]:
    return freezegun.freeze_time(AT, real_asyncio=True)


def freeze_by_time_machine() -> AbstractContextManager[Any]:
    return time_machine.travel(AT, tick=False)


@pytest.fixture(params=[freeze_by_freezegun, freeze_by_time_machine])
def freeze(request: pytest.FixtureRequest) -> Freeze:
    """A way to stop the clock."""
    return request.param


@pytest.fixture
def real_app(url: str) -> Iterator[Celery]:
    """An app with rows."""
    app = Celery("proj", broker=url, backend=url, set_as_current=False)

    @app.task(name="proj.add", shared=False)
    def add(x: int, y: int = 2) -> int:
        return x + y

    yield app
    close_app(app)


@pytest.fixture(params=["manual", "inline", "real"])
def block(request: pytest.FixtureRequest) -> testing:
    """A block in each mode."""
    return testing(request.getfixturevalue(
        "real_app" if request.param == "real" else "app"
    ), request.param)  # fmt: skip


def test_a_wait_ends_at_its_time(block: testing, freeze: Freeze):
    add = block.app.tasks["proj.add"]
    with freeze(), block:
        with pytest.raises(AssertionError):
            assert_enqueued(add, timeout=0.05)
        refute_enqueued(add, timeout=0.05)
        with refute_enqueued(add, timeout=0.05):
            pass
        timer = threading.Timer(0.05, add.delay, (1,))
        timer.start()
        assert_enqueued(add, timeout=20)
        timer.join()
        with pytest.raises(AssertionError):
            assert_enqueued(add, count=2, timeout=0.05)


def test_a_wait_on_an_event_loop_ends_at_its_time(block: testing, freeze: Freeze):
    add = block.app.tasks["proj.add"]

    async def main() -> None:
        with pytest.raises(AssertionError):
            await assert_enqueued(add, timeout=0.05)
        await refute_enqueued(add, timeout=0.05)
        async with refute_enqueued(add, timeout=0.05):
            pass

    with freeze(), block:
        asyncio.run(main())


def test_times_are_those_of_the_program(app: Celery, add: Any, freeze: Freeze):
    with freeze(), testing(app):
        add.apply_async((1,), countdown=60, expires=120)
        assert_enqueued(add, countdown=60, eta=AT + timedelta(seconds=60), expires=120, delta=0)
        assert not drain_queue()
        advance(60)
        assert drain_queue() == {"completed": 1}


def test_what_is_due_moves_with_the_program_s_clock(app: Celery, add: Any):
    with freezegun.freeze_time(AT) as clock, testing(app):
        add.apply_async((1,), countdown=60)
        clock.tick(59)
        assert not due()
        clock.tick(2)
        assert drain_queue() == {"completed": 1}


def test_get_ends_at_its_time(real_app: Celery, freeze: Freeze):
    add = real_app.tasks["proj.add"]
    result, done = add.delay(1), add.delay(2)

    async def main() -> None:
        assert await aget(done, timeout=10) == 4
        with pytest.raises(CeleryTimeoutError):
            await aget(result, timeout=0.1)

    with freeze():
        for timeout in (0, 0.05, 1.2):
            with pytest.raises(CeleryTimeoutError):
                result.get(timeout=timeout)
        timer = threading.Timer(0.1, real_app.backend.store_result, (done.id, 4, "SUCCESS"))
        timer.start()
        assert done.get(timeout=20) == 4
        timer.join()
        asyncio.run(main())
    # Nothing was noted by a clock that showed another century.
    timer = threading.Timer(0.1, real_app.backend.store_result, (result.id, 3, "SUCCESS"))
    timer.start()
    assert result.get(timeout=20) == 3
    timer.join()


def test_get_without_listen_still_polls_when_the_clock_goes_on(url: str, freeze: Freeze):
    app = Celery("proj", broker=url, backend=url, set_as_current=False)
    app.conf.broker_transport_options = {"listen": False, "poll_interval": 0.2}

    @app.task(name="proj.add", shared=False)
    def add() -> None: ...

    results = [add.delay() for _ in range(2)]
    with freeze(), pytest.raises(CeleryTimeoutError):
        results[0].get(timeout=0.3)
    timer = threading.Timer(0.3, app.backend.store_result, (results[1].id, 3, "SUCCESS"))
    timer.start()
    assert results[1].get(timeout=20) == 3
    timer.join()
    close_app(app)


def test_perform_job_tells_delays_by_the_program_s_clock(app: Celery, freeze: Freeze):
    @app.task(base=PgTask, bind=True, name="proj.fails", shared=False)
    def fails(self: Any) -> None:
        raise self.retry(eta=datetime.now(timezone.utc) + timedelta(seconds=90))

    with freeze():
        performed = perform_job(fails)
    assert (performed.outcome, performed.delay) == ("retried", 90)
