"""Which place counts: blocks around a test in mode real, and settings that change meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import celery
import pytest
from celery import Celery
from kombu import Connection

from pgjobs_celery import jobs
from pgjobs_celery.errors import PgJobsError
from pgjobs_celery.testing import assert_enqueued, refute_enqueued, testing
from pgjobs_celery.testing.fixtures.providing import Moved

from ..conftest import close_app


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    """An app whose broker is in this process, and keeps what should not have come to it."""
    app = make_app()
    app.conf.update(broker_url="memory://tests", result_backend="cache+memory://")
    return app


@pytest.fixture
def depth(app: Celery) -> Callable[[], int]:
    """How many messages are in the broker of the settings."""

    def depth() -> int:
        with Connection("memory://tests") as connection:
            queue = connection.SimpleQueue("celery")
            number = queue.qsize()
            queue.clear()
            queue.close()
        return int(number)

    depth()
    return depth


def test_a_block_around_one_in_mode_real_captures_again_afterwards(
    app: Celery, add: Any, url: str, depth: Callable[[], int]
):
    own = app.amqp._producer_pool, app._pool
    with testing(app) as captured:
        for _ in range(2):
            with Moved(app, url):
                result = add.delay(1, 1)
                assert_enqueued(add, args=[1, 1])
                assert app.AsyncResult(result.id).state == "PENDING"
                jobs(app).delete()
            add.delay(9, 9)
            with pytest.raises(AssertionError):
                refute_enqueued(add)
            captured.clear()
        refute_enqueued(add)
    assert depth() == 0
    assert (app.amqp._producer_pool, app._pool) == own
    add.delay(2, 2)
    assert depth() == 1
    with Moved(app, url):
        refute_enqueued(add)


def test_blocks_within_one_in_mode_real(app: Celery, add: Any, url: str, depth: Any):
    with Moved(app, url):
        add.delay(1)
        with testing(app) as captured:
            add.delay(2)
            with testing(app, "real"):  # leads to where mode real was entered
                assert_enqueued(add, args=[1])
                refute_enqueued(add, args=[2])
                add.delay(3)
        assert [job.args for job in captured.inbox.find()] == [[2]]
        assert_enqueued(add, count=2)
    assert depth() == 0


def test_mode_real_leaves_before_a_block_within(app: Celery, add: Any, url: str, depth: Any):
    real, captured = Moved(app, url), testing(app)
    real.__enter__()
    captured.__enter__()
    real.__exit__()
    add.delay(1)
    assert_enqueued(add)
    captured.__exit__()
    add.delay(2)
    assert depth() == 1


def test_urls_of_the_environment_do_not_lead_out_of_mode_real(
    app: Celery, add: Any, url: str, depth: Any, monkeypatch: pytest.MonkeyPatch
):
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setitem(os.environ, name, "memory://tests")
    with Moved(app, url):
        add.delay(1)
        assert_enqueued(add)
    assert depth() == 0


def test_tasks_are_not_eager_in_a_block_whoever_says_so(app: Celery, add: Any):
    with testing(app):
        app.conf.task_always_eager = True
        add.delay(1)
        assert_enqueued(add, count=1)
        add.s(2).apply_async()
        (add.s(3) | add.s(4)).delay()
        app.send_task(add.name, [5])
        assert_enqueued(add, count=4)
        app.conf.update(task_always_eager=False)
    assert app.conf.task_always_eager is False


def test_a_block_leaves_the_settings_to_their_source(app: Celery, add: Any, url: str):
    class Source:
        task_always_eager = False
        broker_url = "memory://tests"

    app.config_from_object(Source)
    with testing(app), Moved(app, url):
        assert app.conf.broker_url == url
        if celery.VERSION >= (5, 7):  # before that no setting of a copy can be read
            assert app.conf.copy().broker_url == "memory://tests"
        app.conf.task_default_queue = "other"
    assert app.conf.broker_url == "memory://tests"
    assert app.conf.task_default_queue == "other"
    assert "task_always_eager" not in app.conf.changes
    Source.task_always_eager = True
    assert app.conf.task_always_eager is True
    with testing(app):
        add.delay(1)
        assert_enqueued(add)


def test_settings_read_anew_within_a_block_are_said(app: Celery, add: Any):
    with testing(app):
        app.config_from_object({"task_always_eager": True}, force=True)
        add.delay(1)
        with pytest.raises(PgJobsError, match="settings anew"):
            refute_enqueued(add)
    close_app(app)


def test_an_app_that_is_closed_within_a_block_is_captured_on(app: Celery, add: Any, depth: Any):
    with testing(app):
        app.close()
        add.delay(1)
        assert_enqueued(add)
        with testing(app):
            refute_enqueued(add)
        add.delay(2)
        assert_enqueued(add, count=2)
    assert depth() == 0
