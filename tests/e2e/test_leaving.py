"""A worker that is told to leave at once while its main thread waits for the database.

Celery leaves in a signal handler: there it ends the pool, and waits until the last task has ended.
Whatever lock the interrupted code holds, nobody gets until then; no task may need it to end.
"""

from __future__ import annotations

import importlib
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import bulk
from pgjobs_celery.db import notify
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.worker.stopping import HANDLER

from ..support.waiting import wait_for
from . import blocked, stalls
from .conftest import StartWorker, Worker, producing
from .rows import Rows, assert_finished

#: Looks for no jobs of itself while a test runs.
QUIET = {"broker_transport_options": {"poll_interval": 300.0}}

#: A claim, or the writing of outcomes, waits for the table.
WAITS = r"""
    SELECT 1 FROM pg_stat_activity
    WHERE wait_event_type = 'Lock'
      AND query ~ '^(--[^\n]*\n)*(WITH (alive|settled) AS|INSERT INTO [^ ]+arrivals)'
"""


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """The workers' app, here as the producer."""
    with producing(stalls.app, url) as app:
        yield app


class Lock:
    """The table of jobs is locked, as by a migration."""

    def __init__(self, url: str) -> None:
        self._holder = psycopg.connect(parse_url(url))
        self._other = psycopg.connect(parse_url(url), autocommit=True)

    def __enter__(self) -> Lock:
        self._holder.execute("LOCK TABLE pgjobs.jobs IN ACCESS EXCLUSIVE MODE")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.close()
        self._other.close()

    def have_claimed(self) -> None:
        """Have a worker that sleeps look for jobs."""
        channel = notify.work_channel("pgjobs")
        self._other.execute("SELECT pg_notify(%s, %s)", [channel, notify.JOB + "celery"])
        self.wait_for_waiter()

    def wait_for_waiter(self) -> None:
        """Until a worker waits for the table, with what it claims or writes."""
        wait_for(lambda: self._other.execute(WAITS).fetchall())

    def release(self) -> None:
        self._holder.rollback()


class Scene:
    """A task that publishes many when it is released, and one that has ended by then."""

    def __init__(self, app: Celery, rows: Rows, folder: Path) -> None:
        self._rows = rows
        self._path, self._release, self._end = (folder / name for name in ("events", "go", "end"))
        self._path.touch()

    def begin(self) -> None:
        self._spread = stalls.spread.delay(str(self._path), str(self._release))
        self._ignored = stalls.ignored.delay(str(self._path), str(self._end))
        wait_for(lambda: self._events()["begin spread"] and self._events()["begin ignored"])

    def end_ignored(self, started: Worker) -> None:
        """What it has come to is there to be written."""
        self._end.touch()
        wait_for(lambda: f"{self._ignored.id}] succeeded" in started.log)

    def publish(self) -> None:
        self._release.touch()
        wait_for(lambda: self._events()["end spread"])

    def _events(self) -> Counter[str]:
        return Counter(self._path.read_text().splitlines())

    def verify(self) -> None:
        """Each has run once, and what was published runs elsewhere."""
        for result in (self._spread, self._ignored):
            assert_finished(self._rows.wait(result.id))
        wait_for(lambda: sum(n for line, n in self._events().items() if "leaf" in line) == 3)
        assert set(self._events().values()) == {1}


@pytest.fixture
def scene(app: Celery, rows: Rows, tmp_path: Path) -> Scene:
    return Scene(app, rows, tmp_path)


def quit(started: Worker) -> None:
    """Tell it to leave at once."""
    started.send(signal.SIGQUIT)
    wait_for(lambda: "Hitting Ctrl+C again" in started.log)


def test_only_celerys_handler_of_a_cold_shutdown_is_put_off() -> None:
    """It is known by its name: by another one, a pool would be ended in it again."""
    module, name = HANDLER
    handler = getattr(importlib.import_module(module), name)
    assert "stop" in handler.__code__.co_names


@pytest.mark.parametrize("soft", [0.0, 1.0], ids=["cold", "soft"])
@pytest.mark.parametrize("warm", [True, False], ids=["TERM before", "at once"])
def test_threads_can_end_their_tasks_while_a_claim_is_interrupted(
    warm: bool, soft: float, worker: StartWorker, scene: Scene, rows: Rows, url: str
) -> None:
    conf = {**QUIET, "worker_soft_shutdown_timeout": soft}
    started = worker(pool="threads", concurrency=3, app="tests.e2e.stalls", conf=conf)
    scene.begin()
    with Lock(url) as lock:
        lock.have_claimed()
        scene.end_ignored(started)
        if warm:
            started.send(signal.SIGTERM)
        quit(started)
        scene.publish()
        lock.release()
        started.process.wait(timeout=20)
    assert rows.nodes() == {}
    worker(pool="threads", app="tests.e2e.stalls")
    scene.verify()


def test_threads_can_end_their_tasks_while_a_leaving_worker_lets_go(
    worker: StartWorker, scene: Scene, rows: Rows, url: str
) -> None:
    started = worker(pool="threads", concurrency=3, app="tests.e2e.stalls", conf=QUIET)
    scene.begin()
    stalls.rare.delay().get(timeout=10)
    waiting = stalls.rare.delay()
    wait_for(lambda: f"{waiting.id}] received" in started.log)
    with Lock(url) as lock:
        started.send(signal.SIGTERM)
        lock.wait_for_waiter()
        quit(started)
        scene.end_ignored(started)
        scene.publish()
        lock.release()
        started.process.wait(timeout=20)
    assert rows.nodes() == {}
    assert rows.get(waiting.id)["state"] == "available"
    worker(pool="threads", app="tests.e2e.stalls")
    scene.verify()


def test_a_time_limit_that_is_over_when_a_claim_is_interrupted_keeps_nobody(
    worker: StartWorker, app: Celery, rows: Rows, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "events"
    path.touch()
    conf = {**QUIET, "task_time_limit": 2.5}
    started = worker(concurrency=2, app="tests.e2e.stalls", conf=conf)
    result = stalls.unacknowledged.delay(str(path), str(tmp_path / "release"))
    wait_for(lambda: "begin" in path.read_text())
    with Lock(url) as lock:
        lock.have_claimed()
        time.sleep(2.5)  # the limit itself
        quit(started)
        lock.release()
        started.process.wait(timeout=20)
    assert rows.nodes() == {}
    row = rows.get(result.id)
    assert (row["state"], row["attempt"]) == ("available", 1)
    (tmp_path / "release").touch()
    worker(concurrency=1, app="tests.e2e.stalls")
    assert_finished(rows.wait(result.id), attempt=2)


def test_a_task_that_has_begun_unheard_is_told_to_end(
    url: str, worker: StartWorker, rows: Rows, tmp_path: Path
) -> None:
    """Its child has said so while the main process did something else, and then the signal came."""
    with producing(blocked.app, url):
        started = worker(app="tests.e2e.blocked", concurrency=2)
        # What comes before a child is up waits in the main process, which is blocked then.
        for result in [blocked.identity.delay(number) for number in range(4)]:
            rows.wait(result.id)
        begun, go_on = tmp_path / "begun", tmp_path / "go on"
        with bulk():
            held = blocked.hold.delay(str(begun), str(tmp_path / "never"))
            blocked.identity.apply_async((1,), task_id=str(go_on))
        wait_for(lambda: begun.exists() and Path(f"{go_on}.blocked").exists())
        quit(started)
        go_on.touch()
        started.process.wait(20)
        assert rows.get(held.id)["state"] != "executing"
        assert rows.get(go_on)["state"] == "available"
