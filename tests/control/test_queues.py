"""``queues(app)``: pause, resume, limit, look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import datetime, timezone
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import queues
from pgjobs_celery.control.queues import Queue, Queues
from pgjobs_celery.errors import InvalidOption, PgJobsError
from pgjobs_celery.job.checks import LARGEST_INTEGER


@pytest.fixture
def control(make_app: Callable[..., Celery]) -> Queues:
    return queues(make_app())


def test_a_queue_that_nobody_knows_is_neither_paused_nor_limited(control):
    assert control.get("unknown") == Queue("unknown", None, None)
    assert control.get("unknown").is_paused is False
    assert control.resume("unknown") is False
    assert list(control) == []


def test_a_queue_is_paused_and_resumed(control):
    control.pause("emails")
    queue = control.get("emails")
    assert queue.is_paused
    assert abs((datetime.now(timezone.utc) - queue.paused_at).total_seconds()) < 60
    assert [each.name for each in control] == ["emails"]
    assert control.resume("emails") is True
    assert control.get("emails") == Queue("emails")


@pytest.mark.parametrize("limit", [0, 1, 5, LARGEST_INTEGER])
def test_a_queue_is_limited_and_not_any_more(control, limit):
    control.limit("emails", limit)
    assert control.get("emails").concurrency == limit
    control.limit("emails", None)
    assert control.get("emails").concurrency is None


@pytest.mark.parametrize("limit", [-1, 1.5, "3", True, LARGEST_INTEGER + 1])
def test_what_is_no_limit_is_refused(control, limit):
    with pytest.raises(InvalidOption, match="limit of queue 'emails' must be a whole number"):
        control.limit("emails", limit)


@pytest.mark.parametrize("name", ["", "a\0b", None, 7])
def test_what_is_no_name_is_refused(control, name):
    actions: list[Callable[[Any], object]] = [
        control.pause,
        control.resume,
        control.get,
        lambda name: control.limit(name, 1),
    ]
    for action in actions:
        with pytest.raises(InvalidOption, match="a queue cannot be called"):
            action(name)


def test_a_queue_cannot_be_changed_by_its_picture(control):
    with pytest.raises(FrozenInstanceError):
        control.get("emails").concurrency = 5


def test_where_only_the_results_are_ours_the_queues_are_there(url, make_app):
    app = make_app(broker_url="memory://", result_backend=url)
    queues(app).limit("emails", 2)
    assert queues(app).get("emails").concurrency == 2


def test_an_app_without_a_database_of_ours_has_none_to_control():
    app = Celery("other", broker="memory://", backend="cache+memory://", set_as_current=False)
    with pytest.raises(PgJobsError, match="app 'other' has its jobs elsewhere"):
        queues(app)
