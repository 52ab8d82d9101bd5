"""Tests of an application see rates and limits, and run its jobs whatever these say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import Concurrency, PgTask, Rate, enqueue_many
from pgjobs_celery.testing import all_enqueued, assert_enqueued, drain_queue, perform_job, testing

from ..conftest import close_app

Make = Callable[[Celery], Any]

RAN: list[int] = []


def make(app: Celery) -> Any:
    """A task that may begin once a day for each tenant, and never runs by its other limit."""

    @app.task(
        base=PgTask,
        name="proj.mail",
        rate=Rate("1/d", by="tenant"),
        concurrency=Concurrency(0),
        shared=False,
    )
    def mail(tenant: int) -> int:
        RAN.append(tenant)
        return tenant

    RAN.clear()
    return mail


LANE = "rate/task/proj.mail={}\nrunning/task/proj.mail"


def test_what_is_captured_has_the_lane_of_its_task(app: Celery):
    mail = make(app)
    with testing(app):
        mail.apply_async((7,), cost=0)
        enqueue_many(mail, [(8,), (9,)])
        assert_enqueued(mail, lane=LANE.format(7), cost=0)
        assert [job.lane for job in all_enqueued()] == [LANE.format(n) for n in (7, 8, 9)]
        assert_enqueued(mail, args=[9], cost=None)
        with pytest.raises(AssertionError, match="lane"):
            assert_enqueued(mail, args=[9], lane=LANE.format(8))
        drain_queue()
    assert RAN == [7, 8, 9]


def test_inline_nothing_waits_for_a_token(app: Celery):
    mail = make(app)
    with testing(app, "inline"):
        assert [mail.delay(7).get() for _ in range(3)] == [7, 7, 7]
    assert perform_job(mail, args=[8]).result == 8


@pytest.fixture
def real(url: str) -> Iterator[Celery]:
    """An app with rows."""
    app = Celery("proj", broker=url, backend=url, set_as_current=False)
    yield app
    close_app(app)


def test_rows_have_their_lane_and_are_drained_in_their_order(real: Celery):
    mail = make(real)
    with testing(real, "real"):
        mail.apply_async((7,), priority=5)
        mail.apply_async((7,), priority=3, cost=0)
        mail.apply_async((8,), priority=3, rate=None, concurrency=None)
        assert_enqueued(mail, lane=LANE.format(7), cost=0, priority=3)
        assert_enqueued(mail, args=[8], lane=None)
        assert drain_queue() == {"completed": 3}
    assert RAN == [7, 8, 7]
