"""The database restarts, connections break: no task is lost, and none runs twice unsaid."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery.embedded import EmbeddedServer

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows, assert_finished

#: Ends every session but those of the test itself.
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'pgjobs-celery'"
)


def recorded(path: Path) -> Counter[int]:
    """How often each value was written by ``tasks.record``."""
    return Counter(json.loads(line)["value"] for line in path.read_text().splitlines())


def assert_nothing_is_lost(rows: Rows, runs: Counter[int], count: int) -> None:
    """Each task ran and its row says so; one that ran twice has a row that says that, too."""
    assert set(runs) == set(range(count))
    attempts = {
        json.loads(row["value"]): row["attempt"]
        for row in rows.select(
            "SELECT convert_from(result, 'UTF8') AS value, attempt FROM pgjobs.jobs"
            " WHERE state = 'completed'"
        )
    }
    assert set(attempts) == set(range(count))
    unsaid = {value: n for value, n in runs.items() if n > 1 and attempts[value] == 1}
    assert unsaid == {}


@pytest.mark.parametrize(
    ("pool", "mode"), [("prefork", "immediate"), ("threads", "fast"), ("solo", "immediate")]
)
def test_tasks_outlive_a_restart_of_the_server(
    pool: str,
    mode: str,
    brief_server: EmbeddedServer,
    worker: StartWorker,
    app: Celery,
    fresh_rows: Any,
    tmp_path: Path,
) -> None:
    count = 600
    lines = tmp_path / "lines"
    worker(pool=pool)
    results = [tasks.record.delay(str(lines), number) for number in range(count)]
    held = tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    late = tasks.hold_late.delay(str(tmp_path / "started2"), str(tmp_path / "release"))
    if pool != "solo":
        wait_for(lambda: lines.exists() and sum(recorded(lines).values()) > 50)
    brief_server.restart(mode)
    (tmp_path / "release").touch()
    rows = fresh_rows()
    rows.wait_count(completed=count + 2, timeout=60)
    assert [result.get(timeout=10) for result in results] == list(range(count))
    assert set(recorded(lines)) == set(range(count))
    for result in (held, late):
        assert result.get(timeout=10) == "released"
        assert rows.get(result.id)["claimed_by"] is None
    assert len(rows.nodes()) == 1
    assert tasks.add.delay(1, 2).get(timeout=10) == 3


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_runs_through_a_restart_completes_once(
    pool: str,
    brief_server: EmbeddedServer,
    worker: StartWorker,
    app: Celery,
    fresh_rows: Any,
    tmp_path: Path,
) -> None:
    worker(pool=pool)
    started = [tmp_path / "early", tmp_path / "late"]
    release = str(tmp_path / "release")
    results = [tasks.hold.delay(str(started[0]), release)]
    results.append(tasks.hold_late.delay(str(started[1]), release))
    wait_for(lambda: all(path.exists() for path in started))
    brief_server.restart("immediate")
    Path(release).touch()
    rows = fresh_rows()
    for result in results:
        assert_finished(rows.wait(result.id, timeout=30))
        assert result.get(timeout=10) == "released"
    assert [path.read_text().count("\n") for path in started] == [1, 1]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_every_task_runs_once_while_sessions_are_terminated(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    count = 2000
    lines = tmp_path / "lines"
    lines.touch()
    for number in range(count):
        (tasks.record, tasks.record_late)[number % 2].delay(str(lines), number)
    worker(pool=pool)
    enough = threading.Event()
    kills = 0  # of every session of the worker at once
    while kills < 8 and rows.count().get("completed", 0) < count:
        rows.select(TERMINATE)
        kills += 1
        enough.wait(0.3)
    rows.wait_count(completed=count, timeout=90)
    assert kills >= 2
    assert recorded(lines) == dict.fromkeys(range(count), 1)
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
