"""Every ``celery inspect`` and ``celery control`` command answers, and does what it says."""

from __future__ import annotations

import json
import os
import pty
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import celery
import pytest
from billiard.exceptions import TimeLimitExceeded
from celery import Celery
from celery.events.state import State

from ..support.celery_process import CeleryProcess, run_celery
from ..support.waiting import wait_for
from . import tasks
from .conftest import ROOT, StartWorker, Worker
from .rows import Rows
from .test_remote_control import leftovers, reply_of


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module")
def running(module_worker: StartWorker) -> Worker:
    return module_worker(concurrency=2, args=["--autoscale=3,1"], conf={"worker_pool_restarts": 1})


@pytest.fixture
def celery_says(url: str) -> Callable[..., str]:
    """What ``celery -A tests.e2e.tasks <arguments>`` prints; it must not fail."""

    def say(*arguments: str) -> str:
        environment = {**os.environ, "PGJOBS_TEST_URL": url, "CELERY_APP": "tests.e2e.tasks"}
        done = run_celery(*arguments, cwd=ROOT, env=environment)
        done.check_returncode()
        return done.stdout

    return say


@contextmanager
def captured_events(app: Celery) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """A program that listens; ask it for the events of some types that came meanwhile."""
    seen: list[dict[str, Any]] = []
    with app.connection_for_read() as broker:
        receiver = app.events.Receiver(broker, handlers={"*": seen.append})
        with receiver.consumer_context() as (connection, _, _):

            def capture(*types: str, seconds: float = 0.2) -> list[dict[str, Any]]:
                until = time.monotonic() + seconds
                while (left := until - time.monotonic()) > 0:
                    try:
                        connection.drain_events(timeout=left)
                    except TimeoutError:
                        break
                return [event for event in seen if event["type"] in types]

            yield capture


def test_every_question_is_answered(running: Worker, app: Celery, tmp_path: Path) -> None:
    held = tasks.hold.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    waiting = tasks.add.apply_async((1, 2), countdown=60)
    wait_for((tmp_path / "started").exists)
    inspect = app.control.inspect([running.name], timeout=5)

    def ask(method: str, *args: Any) -> Any:
        return reply_of(running, getattr(inspect, method)(*args))

    assert ask("ping") == {"ok": "pong"}
    assert [each["id"] for each in ask("active")] == [held.id]
    assert ask("query_task", [held.id, "unknown"])[held.id][0] == "active"
    # A scheduled task is a row and not in a worker's memory; the worker looks it up.
    assert [each["request"]["id"] for each in ask("scheduled")] == [waiting.id]
    assert (ask("reserved"), ask("revoked")) == ([], [])
    assert ask("stats")["pool"]["max-concurrency"] >= 1
    assert "tests.e2e.tasks.add" in ask("registered")
    assert "psycopg" in ask("report")["ok"]
    assert ask("conf")["broker_url"].startswith("pgjobs://")
    assert ask("active_queues")[0]["exchange"]["type"] == "direct"
    assert ask("clock")["clock"] > 0
    assert ask("memsample")
    assert ask("memdump") is not None
    assert ask("hello", "another@host") is not None
    (tmp_path / "release").touch()
    assert held.get(timeout=10) == "released"


def test_orders_are_carried_out(running: Worker, app: Celery, rows: Rows, tmp_path: Path) -> None:
    control, name = app.control, running.name

    def order(method: str, *args: Any, **kwargs: Any) -> Any:
        destination = {"destination": [name], "reply": True, "timeout": 5}
        (reply,) = getattr(control, method)(*args, **destination, **kwargs)
        assert "error" not in reply[name], reply
        return reply[name]

    def size() -> int:
        stats = control.inspect([name], timeout=5).stats()
        return len(stats[name]["pool"]["processes"])

    # Limits of a task
    order("rate_limit", "tests.e2e.tasks.tell_time", "5/s")
    started = sorted(each.get(timeout=10) for each in [tasks.tell_time.delay() for _ in range(4)])
    assert started[-1] - started[0] > 0.5
    order("rate_limit", "tests.e2e.tasks.tell_time", 0)
    order("time_limit", "tests.e2e.tasks.sleep", soft=0.2, hard=0.4)
    result = tasks.sleep.delay(20)
    assert isinstance(result.get(timeout=10, propagate=False), Exception)
    order("time_limit", "tests.e2e.tasks.sleep", hard=0.3)
    with pytest.raises(TimeLimitExceeded):
        tasks.sleep.delay(20).get(timeout=10)
    # The pool
    order("autoscale", 4, 2)
    wait_for(lambda: size() >= 2)
    children = set(running.children())
    order("pool_restart")
    # Each process leaves before its next task, and one that is idle stays.
    wait_for(lambda: tasks.add.delay(1, 2).get(timeout=10) and children - set(running.children()))
    # Queues
    order("add_consumer", "more")
    assert tasks.add.apply_async((1, 2), queue="more").get(timeout=10) == 3
    order("cancel_consumer", "more")
    queues = reply_of(running, control.inspect([name], timeout=5).active_queues())
    assert [queue["name"] for queue in queues] == ["celery"]
    # What has no such task, queue or signal
    assert "error" in control.rate_limit("no.such.task", "5/s", [name], reply=True)[0][name]
    assert "ok" in order("revoke", [str(uuid4()), str(uuid4())])
    assert "ok" in order("revoke_by_stamped_headers", {"stamp": "none"})
    assert "ok" in order("terminate", str(uuid4()))
    control.election("an-election", "no.such.topic")
    wait_for(lambda: not leftovers(rows), message=lambda: leftovers(rows))


def test_events_begin_and_end_on_demand(running: Worker, app: Celery) -> None:
    with captured_events(app) as capture:
        app.control.disable_events([running.name], reply=True, timeout=5)
        tasks.add.delay(1, 2).get(timeout=10)
        assert not capture("task-succeeded")
        app.control.enable_events([running.name], reply=True, timeout=5)
        tasks.add.delay(1, 2).get(timeout=10)
        assert len(wait_for(lambda: capture("task-succeeded"))) == 1
        app.control.disable_events([running.name], reply=True, timeout=5)

        def demanded() -> bool:
            # Nobody has listened to heartbeats until now, and a worker looks once a second.
            app.control.heartbeat([running.name])
            return any(event["freq"] == 5 for event in capture("worker-heartbeat"))

        wait_for(demanded)


def test_a_program_knows_the_state_of_the_cluster(running: Worker, app: Celery) -> None:
    """As the user guide has it: a Receiver feeds a State."""
    state = State()
    with captured_events(app) as capture:
        app.control.enable_events([running.name], reply=True, timeout=5)
        good, bad = tasks.add.delay(1, 2), tasks.fail_builtin.delay()

        def look() -> bool:
            for event in capture("task-received", "task-started", "task-succeeded", "task-failed"):
                state.event(event)
            return {good.id, bad.id} <= set(state.tasks) and all(
                state.tasks[each].ready for each in (good.id, bad.id)
            )

        wait_for(look)
    assert (state.tasks[good.id].state, state.tasks[bad.id].state) == ("SUCCESS", "FAILURE")
    assert (state.tasks[good.id].result, state.tasks[good.id].worker.hostname) == (
        "3", running.name,
    )  # fmt: skip


def test_the_command_line_asks(
    running: Worker, app: Celery, celery_says: Callable[..., str]
) -> None:
    assert f"{running.name}: OK" in celery_says("status")
    answer = celery_says("inspect", "-d", running.name, "-t", "5", "-j", "active_queues")
    assert json.loads(answer)[running.name][0]["name"] == "celery"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dump"], ["task succeeded: tests.e2e.tasks.add", "heartbeat"]),
        ([], ["tests.e2e.tasks.add", "SUCCESS"]),
    ],
    ids=["dumped", "on the screen"],
)
def test_celery_events_shows_what_happens(
    options: list[str], words: list[str], running: Worker, app: Celery, url: str
) -> None:
    app.control.enable_events([running.name], reply=True, timeout=5)
    screen, terminal = pty.openpty()
    events = CeleryProcess(
        ["-A", "tests.e2e.tasks", "events", *options],
        cwd=ROOT,
        env={**os.environ, "PGJOBS_TEST_URL": url, "TERM": "xterm", "COLUMNS": "160"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = ""

    def look() -> bool:
        nonlocal shown
        tasks.add.delay(1, 2).get(timeout=10)
        while select.select([screen], [], [], 0.1)[0]:
            shown += os.read(screen, 65536).decode(errors="replace")
        return all(word in shown for word in words)

    try:
        wait_for(look, message=lambda: shown[-2000:])
    finally:
        events.kill()
        events.wait()
        os.close(screen)
    assert "Traceback" not in shown


def test_three_idle_workers_answer_a_ping_at_once(
    running: Worker, module_worker: StartWorker, app: Celery, rows: Rows
) -> None:
    others = [module_worker(pool="solo", queues=["other"]) for _ in range(2)]
    names = {running.name, *(other.name for other in others)}
    took = []
    for _ in range(20):
        begun = time.perf_counter()
        replies = app.control.ping(timeout=5, limit=3)
        took.append(time.perf_counter() - begun)
        assert {name for reply in replies for name in reply} == names
    # Far less than a look without being told takes; half of them: others use the machine as well.
    assert sorted(took)[10] < 0.5, sorted(took)
    wait_for(lambda: not leftovers(rows), message=lambda: leftovers(rows))


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="new in Celery 5.7")
def test_beat_answers_a_ping(url: str, app: Celery, rows: Rows, tmp_path: Path) -> None:
    beat = CeleryProcess(
        [
            *("-A", "tests.e2e.tasks", "beat", "--pidfile", ""),
            *("--schedule", str(tmp_path / "schedule"), "--enable-remote-control"),
            *("--hostname", "beat@test"),
        ],
        cwd=ROOT,
        env={**os.environ, "PGJOBS_TEST_URL": url},
    )
    try:
        inspect = app.control.inspect(["beat@test"], timeout=0.5)
        assert wait_for(inspect.ping) == {"beat@test": {"ok": "pong"}}
        # What is for workers it leaves to them.
        assert inspect.active() is None
        assert inspect.ping() == {"beat@test": {"ok": "pong"}}
    finally:
        beat.terminate()
        assert beat.wait(10) == 0
    left = "SELECT name FROM pgjobs.queues WHERE name LIKE 'beat@test%%'"
    wait_for(lambda: not rows.select(left))
