"""Sentry's own integration of Celery, in producer, worker and beat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ..support.waiting import wait_for
from . import pgtasks
from .conftest import ROOT, running_workers

if find_spec("sentry_sdk") is None:  # to import it takes half a second
    pytest.skip("sentry-sdk is not installed", allow_module_level=True)

Report = dict[str, Any]


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports") / "reports.json"


@pytest.fixture(scope="module", autouse=True)
def started(url: str, file: Path) -> Iterator[None]:
    """A worker that reports to the file."""
    with running_workers(url, file.parent) as start:
        start(app="tests.e2e.reported", env={"PGJOBS_TEST_REPORTS": str(file)})
        yield


@pytest.fixture
def reports(file: Path) -> Callable[..., list[Report]]:
    """What has been reported of a kind, errors by the id of their task."""

    def read(item: str, task_id: str = "") -> list[Report]:
        lines = file.read_text().splitlines() if file.exists() else []
        found = [each for each in map(json.loads, lines) if each["item"] == item]
        if task_id:
            found = [
                each for each in found if each.get("tags", {}).get("celery_task_id") == task_id
            ]
        return found

    return read


def ran(reports: Callable[..., list[Report]], task_id: str, count: int = 1) -> list[Report]:
    """What is reported of each run of a task; it comes after all errors of that run."""
    return wait_for(
        lambda: len(found := reports("transaction", task_id)) >= count and found,
        message=lambda: reports("transaction"),
    )


def errors(reports: Callable[..., list[Report]], task_id: str) -> list[tuple[str, str]]:
    """The exceptions that were reported of a task."""
    found = [report["exception"]["values"][-1] for report in reports("event", task_id)]
    return [(each["type"], each["value"]) for each in found]


def test_a_failure_is_reported_once(
    pgtask_app: Celery, reports: Callable[..., list[Report]]
) -> None:
    result = pgtask_app.send_task("tests.e2e.reported.plain", ["KeyError"])
    result.get(timeout=10, propagate=False)
    (run,) = ran(reports, result.id)
    assert errors(reports, result.id) == [("KeyError", "'no such row'")]
    assert run["contexts"]["trace"]["status"] == "internal_error"


@pytest.mark.parametrize(
    ("task", "args", "runs", "error"),
    [
        (pgtasks.fail.name, (9,), 3, ("ValueError", "time 3")),
        (pgtasks.retry_twice.name, ("exc",), 3, ("ValueError", "no more")),
        ("tests.e2e.reported.plain", ("OSError",), 3, ("OSError", "no such row")),
    ],
)
def test_a_failure_that_is_tried_again_is_reported_when_it_is_final(
    task: str,
    args: tuple[Any, ...],
    runs: int,
    error: tuple[str, str],
    pgtask_app: Celery,
    reports: Callable[..., list[Report]],
) -> None:
    result = pgtask_app.send_task(task, args)
    result.get(timeout=10, propagate=False)
    ran(reports, result.id, runs)
    assert errors(reports, result.id) == [error]


@pytest.mark.parametrize(
    ("task", "args", "runs"),
    [
        (pgtasks.fail, (1,), 2),
        (pgtasks.end, ("snooze",), 3),
        (pgtasks.end, ("cancel",), 1),
        (pgtasks.end, ("reject",), 1),
        (pgtasks.discard, (), 1),
        (pgtasks.throw, (), 1),
    ],
    ids=lambda value: getattr(value, "name", str(value)).rpartition(".")[2],
)
def test_how_a_task_says_that_it_ends_is_no_error(
    task: Any, args: Any, runs: int, pgtask_app: Celery, reports: Callable[..., list[Report]]
) -> None:
    result = task.apply_async(args)
    wait_for(result.ready)
    ran(reports, result.id, runs)
    assert errors(reports, result.id) == []


def test_a_trace_goes_on_in_the_worker(
    pgtask_app: Celery, url: str, file: Path, reports: Callable[..., list[Report]]
) -> None:
    """The producer is a process of its own: what Sentry patches stays patched."""
    program = (
        "import sentry_sdk; from tests.e2e import reported\n"
        "with sentry_sdk.start_transaction(op='test', name='producer'):\n"
        "    print(reported.app.send_task('tests.e2e.pgtasks.add', [1, 2]).id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PGJOBS_TEST_URL": url, "PGJOBS_TEST_REPORTS": str(file)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    task_id = done.stdout.strip()
    (run,) = ran(reports, task_id)
    (producer,) = [each for each in reports("transaction") if each.get("transaction") == "producer"]
    (publish,) = [span for span in producer["spans"] if span["op"] == "queue.publish"]
    (process,) = [span for span in run["spans"] if span["op"] == "queue.process"]
    assert run["contexts"]["trace"]["trace_id"] == producer["contexts"]["trace"]["trace_id"]
    assert run["contexts"]["trace"]["parent_span_id"] in [
        span["span_id"] for span in producer["spans"]
    ]
    for span in (publish, process):
        assert span["data"]["messaging.message.id"] == task_id
        assert span["data"]["messaging.destination.name"] == "celery"
        assert span["data"]["messaging.system"] == "pgjobs"
    assert 0 < process["data"]["messaging.message.receive.latency"] < 60_000
    assert process["data"]["messaging.message.retry.count"] == 0


def test_beat_checks_in_and_the_worker_checks_out(
    pgtask_app: Celery,
    url: str,
    file: Path,
    tmp_path: Path,
    reports: Callable[..., list[Report]],
) -> None:
    command = [sys.executable, "-m", "tests.support.lean_celery", "-A", "tests.e2e.reported"]
    beat = subprocess.Popen(
        [*command, "beat", "--schedule", str(tmp_path / "schedule"), "--pidfile", ""],
        cwd=ROOT,
        env={**os.environ, "PGJOBS_TEST_URL": url, "PGJOBS_TEST_REPORTS": str(file)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: {"in_progress", "ok"} <= {each["status"] for each in reports("check_in")})
    finally:
        beat.terminate()
        beat.wait()
    begun = {each["check_in_id"] for each in reports("check_in") if each["status"] == "in_progress"}
    done = {each["check_in_id"]: each for each in reports("check_in") if each["status"] == "ok"}
    assert set(done) <= begun
    assert {each["monitor_slug"] for each in done.values()} == {"hourly"}
