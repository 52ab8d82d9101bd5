"""A run that is cut off costs a job with steps no attempt, up to a bound."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ..support.waiting import wait_for
from . import steptasks
from .conftest import StartWorker, producing
from .rows import Rows
from .test_rescue import QUICK
from .test_steps import lines


@pytest.fixture
def step_app(url: str) -> Iterator[Celery]:
    with producing(steptasks.app, url) as app:
        yield app


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


def start(worker: StartWorker, **conf: Any) -> Any:
    return worker(app="tests.e2e.steptasks", concurrency=1, conf={**QUICK, **conf})


def test_a_lost_child_costs_no_attempt(
    step_app: Celery, worker: StartWorker, rows: Rows, path: str, tmp_path: Path
):
    start(worker)
    release = tmp_path / "release"
    result = steptasks.hold.delay(path, str(release))
    for run in range(1, 4):  # two attempts are all that it has
        wait_for(lambda run=run: lines(path).count("run") == run)
        os.kill(int(lines(f"{path}.pid")[-1]), signal.SIGKILL)
    release.touch()
    assert result.get(timeout=30) == 4
    row = rows.get(result.id)
    assert (row["max_attempts"], row["meta"]["interrupted"]) == (5, 3)
    assert [entry["type"] for entry in row["errors"]] == ["WorkerLostError"] * 3
    assert lines(path).count("charge") == 1


def test_a_worker_that_must_leave_costs_no_attempt(
    step_app: Celery, worker: StartWorker, rows: Rows, path: str, tmp_path: Path
):
    release = tmp_path / "release"
    result = steptasks.hold.delay(path, str(release))
    for run in range(1, 4):
        started = start(worker)
        wait_for(lambda run=run: lines(path).count("run") == run)
        started.send(signal.SIGQUIT)
        started.process.wait(20)
        row = rows.wait(result.id, "available")
        assert (row["attempt"], row["meta"]["interrupted"]) == (run, run)
    release.touch()
    start(worker)
    assert result.get(timeout=30) == 4
    assert lines(path).count("charge") == 1


def test_a_child_that_is_lost_as_its_worker_leaves_costs_no_attempt(
    step_app: Celery, worker: StartWorker, rows: Rows, path: str, tmp_path: Path
):
    started = start(worker)
    result = steptasks.hold.delay(path, str(tmp_path / "never"))
    wait_for(lambda: lines(path).count("run") == 1)
    os.kill(int(lines(f"{path}.pid")[-1]), signal.SIGKILL)
    started.send(signal.SIGQUIT)
    started.process.wait(20)
    row = rows.get(result.id)
    assert row["state"] in ("available", "retryable")
    assert (row["attempt"], row["max_attempts"], row["meta"]["interrupted"]) == (1, 3, 1)


def test_a_dead_worker_costs_no_attempt(
    step_app: Celery, worker: StartWorker, rows: Rows, path: str, tmp_path: Path
):
    release = tmp_path / "release"
    result = steptasks.hold.delay(path, str(release))
    for run in range(1, 4):
        started = start(worker)
        wait_for(lambda run=run: lines(path).count("run") == run)
        started.kill()
    release.touch()
    start(worker)
    assert result.get(timeout=60) == 4
    assert rows.get(result.id)["meta"]["interrupted"] == 3
    assert lines(path).count("charge") == 1


def test_behind_the_bound_it_costs_attempts(
    step_app: Celery, worker: StartWorker, rows: Rows, path: str, tmp_path: Path
):
    start(worker, pgjobs_max_interruptions=1)
    result = steptasks.hold.delay(path, str(tmp_path / "never"))
    for run in range(1, 4):
        wait_for(lambda run=run: lines(path).count("run") == run)
        os.kill(int(lines(f"{path}.pid")[-1]), signal.SIGKILL)
    row = rows.wait(result.id, "discarded")
    assert (row["attempt"], row["max_attempts"], row["meta"]["interrupted"]) == (3, 3, 1)
