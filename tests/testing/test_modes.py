"""Modes: by block, nested, in threads and on event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import PgTask
from pgjobs_celery.errors import InvalidOption, PgJobsError
from pgjobs_celery.testing import (
    all_enqueued,
    assert_enqueued,
    drain_queue,
    refute_enqueued,
    testing,
)
from pgjobs_celery.testing.modes import _stages, find_testing


def test_nested_blocks_have_inboxes_of_their_own(app: Celery, add: Any):
    with testing(app) as outer:
        add.delay(1)
        with testing(app, "inline") as inner:
            assert add.delay(2).get() == 4
        add.delay(3)
    assert [job.args for job in outer.inbox.find()] == [[1], [3]]
    assert [job.args for job in inner.inbox.find()] == [[2]]


def test_a_block_may_be_left_before_one_that_was_entered_later(app: Celery, add: Any):
    first, second = testing(app), testing(app)
    own = app.amqp._producer_pool
    first.__enter__()
    second.__enter__()
    first.__exit__()
    add.delay(1)
    second.__exit__()
    assert len(second.inbox) == 1
    assert app.amqp._producer_pool is own


def test_threads_of_the_code_under_test_are_captured_too(app: Celery, add: Any):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(str, range(8)))  # they were started before the block
        with testing(app) as captured:
            list(pool.map(add.delay, range(200)))
    found = captured.inbox.find()
    assert sorted(job.args[0] for job in found) == list(range(200))
    assert [job.number for job in found] == list(range(1, 201))


def test_inline_each_thread_runs_what_it_publishes(app: Celery, add: Any):
    @app.task(name="proj.who", shared=False)
    def who() -> str:
        return threading.current_thread().name

    with testing(app, "inline"), ThreadPoolExecutor(4, thread_name_prefix="mine") as pool:
        names = list(pool.map(lambda _: (who.delay().get(), who.run()), range(50)))
    assert all(ran == own for ran, own in names)


def test_it_is_an_async_block_as_well(app: Celery):
    @app.task(base=PgTask, name="proj.own", shared=False)
    def task(number: int) -> None: ...

    async def main() -> None:
        async with testing(app):
            await asyncio.gather(*(task.adelay(number) for number in range(10)))
            await asyncio.to_thread(task.delay, 10)
            assert len(all_enqueued(task)) == 11

    asyncio.run(main())


def test_an_app_is_not_kept_when_its_test_is_over(make_app: Callable[..., Celery]):
    app = make_app()
    with testing(app, "inline"):
        app.tasks["proj.add"].delay(1)
    assert not _stages
    with pytest.raises(AttributeError), testing(app):
        raise AttributeError
    assert not _stages


def test_what_is_forgotten_while_it_runs_does_no_harm(app: Celery):
    @app.task(name="proj.clear", shared=False)
    def clear() -> None:
        find_testing(app).clear()

    with testing(app, "inline") as captured:
        clear.delay()
        assert not captured.inbox.find()


def test_a_job_that_was_retried_can_still_be_revoked(app: Celery):
    @app.task(base=PgTask, name="proj.fails", shared=False)
    def fails() -> None:
        raise ValueError

    with testing(app):
        result = fails.delay()
        assert drain_queue(with_safety=True) == {"retried": 1}
        assert_enqueued(fails, state="retryable", count=1)
        result.revoke()
        refute_enqueued(fails)


def test_a_slip_in_a_mode_is_named(app: Celery):
    with pytest.raises(InvalidOption, match="did you mean 'inline'"):
        testing(app, "inlined")


def test_outside_of_any_block_an_assertion_says_what_is_missing(app: Celery, add: Any):
    with pytest.raises(PgJobsError, match="with testing"):
        assert_enqueued(add)


def test_with_several_apps_a_name_needs_its_app(make_app: Callable[..., Celery]):
    one, two = make_app(), make_app()
    with testing(one), testing(two):
        one.tasks["proj.add"].delay(1)
        assert_enqueued(one.tasks["proj.add"])
        refute_enqueued(two.tasks["proj.add"])
        assert_enqueued("proj.add", app=one)
        with pytest.raises(PgJobsError, match="app="):
            assert_enqueued("proj.add")


def test_an_app_is_found_behind_a_proxy(app: Celery):
    app.set_current()
    try:
        from celery import current_app

        with testing(current_app) as captured:
            assert find_testing(app) is captured
    finally:
        Celery(set_as_current=True)


def test_mode_real_needs_rows(app: Celery, add: Any):
    with testing(app, "real"), pytest.raises(PgJobsError, match=r"asserts of rows.*broker_url"):
        assert_enqueued(add)
