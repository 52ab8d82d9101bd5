"""What a forked child publishes is seen by the test."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery.testing import assert_enqueued, drain_queue, refute_enqueued, testing

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def by_os_fork(run: Callable[[], Any]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def by_multiprocessing(run: Callable[[], Any]) -> None:
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == 0


FORKS = [by_os_fork, by_multiprocessing]


@pytest.mark.parametrize("fork", FORKS)
def test_what_a_child_publishes_is_enqueued(app: Celery, add: Any, fork: Callable[..., None]):
    with testing(app):
        add.delay(0)
        with assert_enqueued(add, count=2), pytest.raises(AssertionError), refute_enqueued(add):
            fork(lambda: [add.delay(number) for number in (1, 2)])
        assert_enqueued(add, count=3)
        with refute_enqueued(add):
            pass
        assert drain_queue() == {"completed": 3}


@pytest.mark.parametrize("fork", FORKS)
def test_inline_too(app: Celery, add: Any, fork: Callable[..., None]):
    with testing(app, "inline"):
        fork(lambda: add.delay(1).get())
        assert_enqueued(add, args=[1], count=1)


def test_it_is_waited_for(app: Celery, add: Any):
    with testing(app):
        process = multiprocessing.get_context("fork").Process(target=add.delay, args=(1,))
        process.start()
        assert_enqueued(add, timeout=20)
        process.join()


def test_several_children_and_theirs(app: Celery, add: Any):
    body = "x" * 200_000

    def nested() -> None:
        by_os_fork(lambda: [add.delay(body, number) for number in range(20)])

    with testing(app):
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=nested) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        found = assert_enqueued(add, count=80)
    assert {len(job.args[0]) for job in found} == {200_000}
