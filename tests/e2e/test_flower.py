"""Flower as it is, through its HTTP API."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from celery import Celery

from ..support.waiting import wait_for
from . import tasks
from .conftest import ROOT, StartWorker, Worker
from .rows import Rows, assert_finished

pytest.importorskip("flower")


class Flower(NamedTuple):
    """A running Flower."""

    address: str
    path: Path

    @property
    def log(self) -> str:
        return self.path.read_text(errors="replace")

    def get(self, path: str, **query: Any) -> Any:
        return self._ask("GET", path, query, None)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return self._ask("POST", path, query, json.dumps(body).encode() if body else b"")

    def status(self, path: str) -> int:
        """The HTTP status of a page."""
        try:
            self.get(path)
        except HTTPError as error:
            return error.code
        return 200

    def _ask(self, method: str, path: str, query: Any, body: bytes | None) -> Any:
        target = f"{self.address}{path}{'?' if query else ''}{urlencode(query)}"
        with urlopen(Request(target, body, method=method), timeout=20) as response:
            text = response.read().decode()
        return json.loads(text) if "json" in response.headers["Content-Type"] else text


@contextmanager
def running_flower(url: str, log: Path, options: Sequence[str]) -> Iterator[Flower]:
    """``celery <options> flower``, once it answers; it must have nothing to complain of."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", *options, "flower", "--port=0", "--address=127.0.0.1"],
            cwd=ROOT,
            env={**os.environ, "PGJOBS_TEST_URL": url, "FLOWER_UNAUTHENTICATED_API": "true"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        (address,) = wait_for(lambda: re.findall(r"Visit me at (http\S+)", log.read_text()), 30)
        yield Flower(address, log)
    finally:
        process.terminate()
        process.wait(10)
        print(log.read_text())


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker and a Flower, and so the database."""
    return module_url


@pytest.fixture(scope="module")
def running(module_worker: StartWorker) -> Worker:
    return module_worker(concurrency=2, args=["--task-events"])


@pytest.fixture(scope="module")
def flower(url: str, running: Worker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    log = tmp_path_factory.mktemp("flower") / "flower.log"
    with running_flower(url, log, ["-A", "tests.e2e.current"]) as flower:
        yield flower


def seen(flower: Flower, task_id: str, state: str) -> Any:
    """What Flower knows of a task, once it has heard that it is in this state."""

    def look() -> Any:
        found = flower.get("/api/tasks").get(task_id)
        return found if found and found["state"] == state else None

    return wait_for(look, message=lambda: flower.get("/api/tasks").get(task_id))


#: The commands by which Flower asks a worker.
ASKED = {"registered", "active_queues", "stats", "active", "reserved", "scheduled"}


def test_the_worker_is_shown(flower: Flower, running: Worker) -> None:
    def look() -> Any:
        """It asks for each of them by itself, and leaves out what came too late."""
        found = flower.get("/api/workers", refresh=1, workername=running.name)[running.name]
        return found if found.keys() >= ASKED else None

    worker = wait_for(look)
    assert "tests.e2e.tasks.add" in worker["registered"]
    assert [queue["name"] for queue in worker["active_queues"]] == ["celery"]
    assert worker["stats"]["broker"]["transport"] == "pgjobs"
    assert (worker["active"], worker["reserved"], worker["scheduled"]) == ([], [], [])
    assert running.name in flower.get("/api/workers", refresh=1)
    wait_for(lambda: flower.get("/api/workers", status=1) == {running.name: True})


def test_tasks_are_listed_as_they_ended(flower: Flower, running: Worker, app: Celery) -> None:
    good, bad = tasks.add.delay(1, 2), tasks.fail_builtin.delay()
    listed = seen(flower, good.id, "SUCCESS")
    assert (listed["name"], listed["args"], listed["kwargs"], listed["result"]) == (
        "tests.e2e.tasks.add", "(1, 2)", "{}", "3",
    )  # fmt: skip
    assert listed["worker"] == running.name
    assert listed["received"] <= listed["started"] <= listed["succeeded"]
    assert "no such key" in seen(flower, bad.id, "FAILURE")["exception"]
    assert flower.get(f"/api/task/info/{bad.id}")["traceback"].startswith("Traceback")
    assert flower.get("/api/tasks", state="FAILURE").keys() == {bad.id}


def test_tasks_are_published_and_their_results_fetched(flower: Flower, rows: Rows) -> None:
    for how in ("async-apply", "send-task"):
        sent = flower.post(f"/api/task/{how}/tests.e2e.tasks.add", {"args": [2, 3]})
        assert flower.get(f"/api/task/result/{sent['task-id']}", timeout=10)["result"] == 5
        assert_finished(rows.get(sent["task-id"]))
    body = {"args": [2], "kwargs": {"y": 4}, "countdown": 0}
    applied = flower.post("/api/task/apply/tests.e2e.tasks.add", body)
    assert (applied["state"], applied["result"]) == ("SUCCESS", 6)


def test_a_task_that_waits_is_revoked(flower: Flower, app: Celery, rows: Rows) -> None:
    result = tasks.add.apply_async((1, 2), countdown=3600)
    flower.post(f"/api/task/revoke/{result.id}")
    assert_finished(rows.get(result.id), "cancelled", 0)
    assert flower.get(f"/api/task/result/{result.id}")["state"] == "REVOKED"


def test_a_task_that_runs_is_terminated(
    flower: Flower, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    result = tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    flower.post(f"/api/task/revoke/{result.id}", terminate=1)
    assert_finished(rows.wait(result.id), "cancelled")
    seen(flower, result.id, "REVOKED")


def test_the_worker_is_controlled(flower: Flower, running: Worker) -> None:
    flower.get("/api/workers", refresh=1)
    name = running.name

    def say(path: str, **query: Any) -> str:
        return str(flower.post(path, **query)["message"])

    def processes() -> int:
        worker = flower.get("/api/workers", refresh=1, workername=name)[name]
        return len(worker["stats"]["pool"]["processes"])

    assert "Growing" in say(f"/api/worker/pool/grow/{name}", n=1)
    wait_for(lambda: processes() == 3)
    assert "Shrinking" in say(f"/api/worker/pool/shrink/{name}", n=1)
    wait_for(lambda: processes() == 2)
    assert say(f"/api/worker/queue/add-consumer/{name}", queue="more") == "add consumer more"
    assert "more" in say(f"/api/worker/queue/cancel-consumer/{name}", queue="more")
    limit = {"workername": name, "ratelimit": "1000/s"}
    assert "rate limit set" in say("/api/task/rate-limit/tests.e2e.tasks.size", **limit)
    limits = {"workername": name, "soft": 10, "hard": 20}
    assert "time limits set" in say("/api/task/timeout/tests.e2e.tasks.size", **limits)


def test_its_pages_are_shown_and_its_metrics_count(
    flower: Flower, running: Worker, app: Celery
) -> None:
    result = tasks.add.delay(1, 2)
    seen(flower, result.id, "SUCCESS")
    flower.get("/api/workers", refresh=1)
    for page in ("/", "/tasks", f"/worker/{running.name}", f"/task/{result.id}", "/healthcheck"):
        assert flower.status(page) == 200, page
    counted = re.search(
        rf'flower_events_total{{task="tests.e2e.tasks.add",type="task-succeeded",'
        rf'worker="{running.name}"}} (\S+)',
        flower.get("/metrics"),
    )
    assert counted
    assert float(counted[1]) >= 1
    # Flower counts queues on RabbitMQ and Redis only, and says so.
    assert [flower.status(page) for page in ("/broker", "/api/queues/length")] == [404, 404]
    assert "'pgjobs' broker is not supported" in flower.log
    # That a method "failed" it says of an answer that takes longer than a second.
    for complaint in ("Traceback", "Error"):
        assert complaint not in flower.log


def test_it_needs_no_more_than_the_url(url: str, running: Worker, tmp_path: Path) -> None:
    with running_flower(url, tmp_path / "log", ["-b", url, "--result-backend", url]) as flower:
        assert running.name in flower.get("/api/workers", refresh=1)
        sent = flower.post("/api/task/send-task/tests.e2e.tasks.add", {"args": [2, 3]})
        assert seen(flower, sent["task-id"], "SUCCESS")["result"] == "5"
        assert flower.get(f"/api/task/result/{sent['task-id']}")["result"] == 5
        assert "Traceback" not in flower.log
