from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from celery.exceptions import InvalidTaskError

from pgjobs_celery.worker.headers import check_headers


def test_what_celery_publishes_is_as_it_must_be(make_app: Any) -> None:
    app: Celery = make_app()

    @app.task(shared=False)
    def task() -> None:
        pass

    options = {"expires": 60, "time_limit": 5, "soft_time_limit": 4.5, "shadow": "x"}
    message = app.amqp.as_task_v2("id", task.name, (1,), {}, **options)
    headers = {**message.headers, "stamped_headers": ["a"], "stamps": {"a": ["b"]}}
    before = dict(headers)
    check_headers(headers)
    assert headers == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", [1]), ("id", True), ("root_id", {}), ("group", 1.5), ("shadow", 5),
        ("argsrepr", [1]), ("retries", "1"), ("retries", 1.5), ("group_index", {}), ("eta", {}),
        ("eta", ""), ("expires", 5), ("timelimit", 5), ("timelimit", [1]), ("timelimit", ["1", 2]),
        ("timelimit", [float("nan"), None]), ("timelimit", [-1, None]), ("timelimit", {"a": 1}),
        ("stamped_headers", 5), ("stamped_headers", [{}]), ("stamps", [1]),
    ],
)  # fmt: skip
def test_what_is_of_another_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidTaskError, match=name):
        check_headers({"id": "x", "task": "y", name: value})


@pytest.mark.parametrize(
    ("name", "value", "becomes"),
    [("id", 5, "5"), ("parent_id", UUID(int=1), str(UUID(int=1))), ("root_id", None, None)],
)
def test_a_name_becomes_text(name: str, value: Any, becomes: Any) -> None:
    headers = {name: value}
    check_headers(headers)
    assert headers == {name: becomes}


def test_times_may_be_decoded_already() -> None:
    headers = {"eta": datetime(2026, 1, 1), "expires": "2026-01-01"}
    check_headers(headers)
