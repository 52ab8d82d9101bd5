"""Workers find each other, hear of each other, and agree on who is to do something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from celery import Celery

from ..support.waiting import wait_for
from .conftest import StartWorker
from .rows import Rows


def test_workers_hear_of_each_other(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    first = worker(pool="threads", mingle=True)
    assert "mingle: all alone" in first.log
    second = worker(pool="solo", mingle=True)
    assert "mingle: sync with 1 nodes" in second.log
    wait_for(lambda: f"sync with {second.name}" in first.log, message=lambda: first.log)

    def clocks() -> list[Any]:
        replies = app.control.inspect(timeout=10, limit=2).clock() or {}
        return [each["clock"] for each in replies.values()]

    assert len(clocks()) == 2
    # One of them is elected, and does it.
    app.control.broadcast(
        "election",
        arguments={"id": "x", "topic": "task", "action": {"task": "tests.e2e.tasks.add"}},
    )
    wait_for(
        lambda: sum("I won the election" in each.log for each in (first, second)) == 1,
        message=lambda: json.dumps([first.log, second.log]),
    )
    second.stop()
    first.stop()
    assert not rows.select("SELECT 1 FROM pgjobs.queues WHERE name LIKE 'celeryev%%'")
