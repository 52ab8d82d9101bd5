"""How far a job says that it has come: a table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from pgjobs_celery.job.states import State
from pgjobs_celery.web.progress import progress_of
from pgjobs_celery.web.values import ABSENT, Number


def told(
    meta: Any, result: Any = ABSENT, reported: str | None = None, state: str = "executing"
) -> Any:
    row: Any = SimpleNamespace(state=State(state), reported_state=reported, meta=meta)
    found = progress_of(row, result)
    return found and (round(found.share, 3), found.text)


@pytest.mark.parametrize(
    ("meta", "progress"),
    [
        ({"done": 30, "total": 120}, (0.25, "30 of 120")),
        ({"current": 3, "total": 10}, (0.3, "3 of 10")),
        ({"progress": {"completed": 1, "total": 2}}, (0.5, "1 of 2")),
        ({"progress": 0.4}, (0.4, "40 %")),
        ({"progress": 40}, (0.4, "40 %")),
        ({"percent": 7}, (0.07, "7 %")),
        ({"fraction": 1}, (1.0, "100 %")),
        ({"done": 300, "total": 120}, (1.0, "300 of 120")),
        ({"done": 5_000_000, "total": 10_000_000}, (0.5, "5,000,000 of 10,000,000")),
        ({"done": 3}, None),
        ({"done": True, "total": 4}, None),
        ({"done": "3", "total": "4"}, None),
        ({"done": 1, "total": 0}, None),
        ({"done": -1, "total": 4}, None),
        ({"done": 1, "total": float("nan")}, None),
        ({"done": 10**400, "total": 10**401}, None),
        ({}, None),
        (None, None),
        ([1], None),
    ],
)
def test_it_is_read_from_the_words_of_tasks(meta, progress):
    assert told(meta) == progress


def test_what_the_task_reported_comes_first():
    result = {"current": Number("9"), "total": Number("10")}
    assert told({"done": 1, "total": 2}, result, "PROGRESS") == (0.9, "9 of 10")
    # Without a report the result is that of an earlier attempt.
    assert told({"done": 1, "total": 2}, result) == (0.5, "1 of 2")
    assert told({"done": 1, "total": 2}, {"x": 1}, "PROGRESS") == (0.5, "1 of 2")


@pytest.mark.parametrize("state", ["available", "completed", "discarded", "retryable"])
def test_what_does_not_run_has_none(state):
    assert told({"done": 1, "total": 2}, state=state) is None
