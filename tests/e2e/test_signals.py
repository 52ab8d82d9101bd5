"""A worker tells of its jobs by signals, once the rows say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ..support.waiting import wait_for
from . import pgtasks
from .conftest import StartWorker
from .rows import Rows


@pytest.fixture(params=["prefork", "threads"])
def sent(worker: StartWorker, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file in which a worker notes its signals."""
    path = tmp_path / "signals"
    env = {"PGJOBS_TEST_SIGNALS": str(path)}
    worker(app="tests.e2e.pgtasks", pool=request.param, concurrency=1, env=env)
    return path


def read(path: Path, task_id: str) -> list[dict[str, Any]]:
    """What was said of a job."""
    lines = path.read_text().splitlines() if path.exists() else []
    events = [json.loads(line) for line in lines]
    return [each for each in events if each["task_id"] == task_id]


def test_signals_tell_what_the_rows_say(pgtask_app: Celery, rows: Rows, sent: Path):
    large = "x" * 100_000  # a result that the pool's process writes itself
    for task, options, attempts, state in (
        (pgtasks.add, {"args": (1, 2)}, 1, "completed"),
        (pgtasks.add, {"args": (large, large)}, 1, "completed"),
        (pgtasks.add, {"args": (1, 2), "ignore_result": True}, 1, "completed"),
        (pgtasks.fail, {"args": (9,)}, 3, "discarded"),
        (pgtasks.fail, {"args": (9,), "ignore_result": True, "max_attempts": 2}, 2, "discarded"),
        (pgtasks.end, {"args": ("cancel",)}, 1, "cancelled"),
    ):
        result = task.apply_async(**options)
        row = rows.wait(result.id)
        assert row["state"] == state
        ends = 2 if state == "discarded" else 1
        events = wait_for(
            lambda id=result.id, count=attempts + ends: (
                found if len(found := read(sent, id)) >= count else None
            )
        )
        assert [(each["signal"], each["attempt"]) for each in events] == [
            *(("job_claimed", attempt + 1) for attempt in range(attempts)),
            ("job_finished", attempts),
            *([("job_discarded", attempts)] if state == "discarded" else []),
        ]
        assert {each["sender"] for each in events} == {task.name}
        assert events[0]["queue"] == "celery"
        assert events[0]["max_attempts"] == row["max_attempts"]
        finished = events[attempts]
        assert finished["state"] == state
        if state == "discarded":
            assert finished["error"]["type"] == "ValueError"
            assert events[-1]["error"] == finished["error"]


def test_a_job_that_retries_or_replaces_itself_has_not_ended(
    pgtask_app: Celery, rows: Rows, sent: Path
):
    for task, args, attempts in ((pgtasks.retry, (2,), 3), (pgtasks.replace, (1,), 2)):
        result = task.apply_async(args)
        rows.wait(result.id)
        events = wait_for(
            lambda id=result.id: (
                found if (found := read(sent, id))[-1:] and "state" in found[-1] else None
            )
        )
        assert [(each["signal"], each["attempt"]) for each in events] == [
            *(("job_claimed", attempt + 1) for attempt in range(attempts)),
            ("job_finished", attempts),
        ]
