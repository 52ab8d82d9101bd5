"""Entries that are made, paused, run and deleted while two beats and a worker are at it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import schedules
from pgjobs_celery.beat.scheduler import PgScheduler
from pgjobs_celery.job.states import State

from ..support.waiting import wait_for
from .beats import StartBeat, running_beats
from .conftest import StartWorker
from .rows import Rows

TASK = "tests.e2e.tasks.add"


@pytest.fixture
def beat(url: str, tmp_path: Path) -> Iterator[StartBeat]:
    with running_beats(url, tmp_path) as start:
        yield start


def runs(rows: Rows, name: str) -> list[dict[str, Any]]:
    return rows.select("SELECT * FROM pgjobs.jobs WHERE meta->>'schedule' = %s ORDER BY id", name)


def test_beats_and_workers_go_along_with_what_is_changed(
    beat: StartBeat, worker: StartWorker, app: Celery, rows: Rows
) -> None:
    beats = [beat({"own": {"task": TASK, "schedule": 0.5, "args": (1, 2)}}) for _ in range(2)]
    worker(pool="threads")
    control = schedules(app)
    wait_for(lambda: runs(rows, "own"), timeout=30)

    begun = time.monotonic()
    control.put("made", TASK, 0.1, (2, 3), tags=["x"])
    wait_for(lambda: runs(rows, "made"))
    assert time.monotonic() - begun < PgScheduler.max_interval / 2
    wait_for(lambda: control.get("made").last_state is State.COMPLETED)
    job = runs(rows, "made")[0]
    assert job["tags"] == ["x"]
    assert datetime.fromisoformat(job["meta"]["tick"]) <= job["inserted_at"]

    assert control.pause("made")
    assert control.pause("own")
    count = {name: len(runs(rows, name)) for name in ("made", "own")}
    control.put("other", TASK, 0.3, (1, 1))  # tells that more time has passed than beats need
    wait_for(lambda: len(runs(rows, "other")) >= 3)
    assert {name: len(runs(rows, name)) for name in ("made", "own")} == count

    result = control.run("own")
    assert result.get(timeout=10) == 3
    assert rows.get(result.id)["meta"] == {"schedule": "own", "by_hand": True}

    beats[0].kill()
    assert control.resume("own")
    wait_for(lambda: len(runs(rows, "own")) >= count["own"] + 3)
    assert control.delete("other")
    ticks = [row["meta"].get("tick") for row in runs(rows, "own")]
    assert len(set(ticks)) == len(ticks)
