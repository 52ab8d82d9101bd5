"""A worker's main process does not listen for a while; its children go on, and end their tasks.

When it is back it finds two things at once: what a child has sent, and a time limit that has run
out meanwhile. The first counts: the task was over in time.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from celery import Celery, chain

from pgjobs_celery.db.dsn import parse_url

from ..support.networks import Network
from ..support.waiting import wait_for
from . import stalls
from .conftest import StartWorker, Worker, producing
from .rows import Rows, assert_finished, errors

#: Seconds that a task may take: enough for all to begin, and for the stall to begin.
LIMIT = 4.0
HARD = {"task_time_limit": LIMIT}
SOFT = {"task_soft_time_limit": LIMIT}
#: A claim each half second, which is where a worker can be held up.
CLAIMING = {"broker_transport_options": {"poll_interval": 0.5}}

#: Linux's, which Python has a name for since 3.10; not on other systems.
F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)

BLOCKED = """
    SELECT 1 FROM pg_locks WHERE relation = 'pgjobs.jobs'::regclass AND NOT granted
"""


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """The workers' app, here as the producer."""
    with producing(stalls.app, url) as app:
        yield app


class Scene:
    """One task of each kind, and of a chain, that run until they are released."""

    def __init__(self, rows: Rows, folder: Path) -> None:
        self._rows = rows
        self.path = folder / "events"
        self.path.touch()
        self._release = folder / "release"
        self._results: dict[str, Any] = {}
        self._names: list[str] = []
        self._until = 0.0

    def begin(self, *, size: int = 0, chained: bool = True) -> None:
        """Publish them, and return when all have begun."""
        given = (str(self.path), str(self._release), size)
        for kind in stalls.KINDS:
            self._results[kind.name.rpartition(".")[2]] = kind.delay(*given)
        if chained:
            steps = chain(
                stalls.first_step.si(*given).on_error(stalls.errback.s(path=str(self.path))),
                stalls.next_step.s(path=str(self.path)),
            ).apply_async()
            self._results["first_step"] = steps.parent
        self._names = list(self._results)
        if chained:
            self._results["next_step"] = steps
        wait_for(lambda: self._count("begin") == len(self._names), message=self.events)
        self._until = time.monotonic() + LIMIT

    def end(self) -> None:
        """Have them end, and return when the limit of all of them is over."""
        self._release.touch()
        wait_for(lambda: self._count("end") == len(self._names), message=self.events)
        assert time.monotonic() < self._until, "this machine is too slow for these limits"
        time.sleep(self._until + 0.5 - time.monotonic())  # the limit itself

    def verify(self) -> None:
        """Each has run once and succeeded, and so has what follows."""
        for name, result in self._results.items():
            row = self._rows.wait(result.id, timeout=20)
            assert_finished(row), name
            assert errors(row) == [], name
            if name != "ignored":
                assert result.get(timeout=5).strip() == name.replace("next", "first")
        lines = [f"{event} {name}" for event in ("begin", "end") for name in self._names]
        if "next_step" in self._results:
            lines.append("next step")
        assert self.events() == Counter(lines)

    def events(self) -> Counter[str]:
        return Counter(self.path.read_text().splitlines())

    def _count(self, event: str) -> int:
        return sum(n for line, n in self.events().items() if line.startswith(event))


@pytest.fixture
def scene(rows: Rows, tmp_path: Path, app: Celery) -> Scene:
    return Scene(rows, tmp_path)


@contextmanager
def stopped(started: Worker, *_: Any) -> Iterator[None]:
    """The main process is stopped, as a debugger or a hypervisor does it."""
    started.send(signal.SIGSTOP)
    yield
    started.send(signal.SIGCONT)


@contextmanager
def away(started: Worker, network: Network, url: str) -> Iterator[None]:
    """The database is away."""
    network.close()
    network.cut()
    yield
    network.open()


@contextmanager
def locked(started: Worker, network: Network, url: str) -> Iterator[None]:
    """The table is locked, as by a migration, and the worker waits for it in its claim."""
    with psycopg.connect(parse_url(url)) as connection:
        connection.execute("LOCK TABLE pgjobs.jobs IN ACCESS EXCLUSIVE MODE")
        with psycopg.connect(parse_url(url), autocommit=True) as other:
            wait_for(lambda: other.execute(BLOCKED).fetchall())
        yield


Stall = Callable[..., AbstractContextManager[None]]


@pytest.mark.parametrize("stall", [stopped, away, locked], ids=lambda stall: stall.__name__)
@pytest.mark.parametrize("limits", [HARD, SOFT], ids=["hard", "soft"])
def test_what_has_ended_in_time_has_succeeded(
    limits: dict[str, float], stall: Stall, worker: StartWorker, scene: Scene, url: str
) -> None:
    with Network(url) as network:
        conf = {**CLAIMING, **limits}
        started = worker(broker=network.url, concurrency=8, app="tests.e2e.stalls", conf=conf)
        # The end of a chain's step is late where it cannot publish the next one.
        scene.begin(chained=stall is stopped)
        with stall(started, network, url):
            scene.end()
        scene.verify()
        assert started.stop() == 0


def narrow_pipes(started: Worker) -> None:
    """Give the worker's pipes the capacity that they have where a user has too many of them."""
    for link in Path(f"/proc/{started.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed again
            if os.readlink(link).startswith("pipe:"):
                with link.open("rb", buffering=0) as pipe:
                    fcntl.fcntl(pipe, F_SETPIPE_SZ, 4096)


def quit(started: Worker) -> None:
    started.send(signal.SIGQUIT)


def kill_children(started: Worker) -> None:
    for child in started.children():
        os.kill(child, signal.SIGKILL)


def end_children(started: Worker) -> None:
    for child in started.children():
        os.kill(child, signal.SIGTERM)


def do_nothing(started: Worker) -> None:
    pass


@pytest.mark.parametrize("size", [3_000, 65_000])
@pytest.mark.parametrize("fault", [do_nothing, kill_children, end_children, quit])
@pytest.mark.parametrize("limits", [HARD, SOFT], ids=["hard", "soft"])
def test_a_result_of_any_size_is_there_when_nobody_listened(
    limits: dict[str, float],
    fault: Callable[[Worker], None],
    size: int,
    worker: StartWorker,
    scene: Scene,
) -> None:
    """Half of it must not stand in the pipe, whatever befalls the child that wrote it."""
    started = worker(concurrency=8, app="tests.e2e.stalls", conf=limits)
    narrow_pipes(started)
    scene.begin(size=size)
    with stopped(started):
        scene.end()
        fault(started)
    if fault is quit:
        started.process.wait(timeout=20)
        started = worker(concurrency=1, app="tests.e2e.stalls")
    scene.verify()
    assert started.stop() == 0


@pytest.mark.parametrize("fault", [do_nothing, kill_children])
def test_a_failure_of_any_size_is_told_when_nobody_listened(
    fault: Callable[[Worker], None],
    worker: StartWorker,
    app: Celery,
    rows: Rows,
    tmp_path: Path,
) -> None:
    path, release = tmp_path / "events", tmp_path / "release"
    path.touch()
    started = worker(concurrency=8, app="tests.e2e.stalls", conf=SOFT)
    narrow_pipes(started)
    kinds = [stalls.failing, stalls.failing_pgtask, stalls.leaving]
    failing, postponed, leaving = (kind.delay(str(path), str(release), 100_000) for kind in kinds)
    wait_for(lambda: path.read_text().count("begin") == 3)
    with stopped(started):
        release.touch()
        wait_for(lambda: path.read_text().count("end") == 3)
        time.sleep(LIMIT)  # the limit itself
        fault(started)
    row = rows.wait(failing.id)
    assert errors(row) == [(1, "ValueError")]
    assert "wait_for_file" not in row["errors"][0]["traceback"]
    assert "characters left out" in row["errors"][0]["message"]
    row = rows.wait(postponed.id)
    assert errors(row) == [(1, "ValueError"), (2, "ValueError")]
    assert ", in fail" in row["errors"][0]["traceback"]
    assert rows.wait(leaving.id)["state"] == "discarded"
    assert Counter(path.read_text().split("\n"))["begin failing_pgtask"] == 2
    assert started.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT], ids=["QUIT", "INT twice"])
def test_what_ends_in_a_soft_shutdown_has_succeeded_whatever_its_limit(
    number: int, worker: StartWorker, scene: Scene
) -> None:
    conf = {**HARD, "worker_soft_shutdown_timeout": LIMIT + 1.0}
    started = worker(concurrency=6, app="tests.e2e.stalls", conf=conf)
    scene.begin()
    if number == signal.SIGINT:
        started.send(number)
        wait_for(lambda: "Hitting Ctrl+C again" in started.log)
    started.send(number)
    wait_for(lambda: "Initiating Soft Shutdown" in started.log)
    scene.end()
    started.process.wait(timeout=20)
    # The chain's next step waits in line.
    worker(concurrency=1, app="tests.e2e.stalls")
    scene.verify()


def test_what_happens_in_a_soft_shutdown_is_heard_in_it(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    """Its results must not wait for the end, nor its time limits."""
    path, release, never = tmp_path / "events", tmp_path / "release", tmp_path / "never"
    path.touch()
    conf = {**HARD, "worker_soft_shutdown_timeout": 60.0}
    started = worker(concurrency=3, app="tests.e2e.stalls", conf=conf)
    early, pgtask = (task.delay(str(path), str(release)) for task in (stalls.early, stalls.pgtask))
    slow = stalls.late.delay(str(path), str(never))
    wait_for(lambda: path.read_text().count("begin") == 3)
    waiting = [stalls.next_step.delay("", str(path)) for _ in range(8)]
    wait_for(lambda: psutil.Process(started.pid).status() == "sleeping")
    started.send(signal.SIGQUIT)
    wait_for(lambda: "Initiating Soft Shutdown" in started.log)
    release.touch()
    for ended in (early, pgtask):
        assert_finished(rows.wait(ended.id))
    row = rows.wait(slow.id)
    assert errors(row) == [(1, "TimeLimitExceeded")]
    # Nothing that had not begun has begun.
    assert "next step" not in path.read_text()
    assert rows.count() == {"completed": 2, "discarded": 1, "available": len(waiting)}
    assert started.process.poll() is None
    started.kill()


def test_what_ended_unheard_when_others_took_it_over_changes_nothing(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    """Its worker was silent for longer than its lease, with the results in its pipes."""
    path, release = tmp_path / "events", tmp_path / "release"
    path.touch()
    conf = {**HARD, "pgjobs_lease": 1.5, "pgjobs_heartbeat_interval": 0.3}
    started = worker(concurrency=4, app="tests.e2e.stalls", conf=conf)
    given = (str(path), str(release))
    early, late, pgtask = (
        task.delay(*given) for task in (stalls.early, stalls.late, stalls.pgtask)
    )
    following = chain(stalls.first_step.si(*given), stalls.next_step.s(path=str(path)))()
    wait_for(lambda: path.read_text().count("begin") == 4)
    other = worker(concurrency=4, app="tests.e2e.stalls", conf=conf)
    with stopped(started):
        release.touch()
        wait_for(lambda: path.read_text().count("end") >= 4)
        for result in (late, pgtask, following.parent, following):
            rows.wait(result.id, timeout=20)
        rows.wait(early.id)
        before = rows.select("SELECT * FROM pgjobs.jobs ORDER BY id")
    # It hears of all of them, and goes on.
    wait_for(lambda: "was no longer ours" in started.log)
    assert other.stop() == 0
    assert stalls.next_step.delay("again", str(path)).get(timeout=10) == "again"
    after = rows.select("SELECT * FROM pgjobs.jobs ORDER BY id")
    assert after[: len(before)] == before
    assert errors(rows.get(early.id)) == [(1, "WorkerLostError")]
    for result in (late, pgtask, following.parent):
        assert_finished(rows.get(result.id), attempt=2)
    events = Counter(path.read_text().splitlines())
    assert events["begin early"] == 1
    assert events["next step"] == 2  # of the chain, and the one at the end
    assert started.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "soft"])
def test_a_task_is_told_once_that_its_time_is_over(
    number: int, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    path, release = tmp_path / "events", tmp_path / "release"
    path.touch()
    conf = {"worker_soft_shutdown_timeout": 3.0}
    started = worker(concurrency=2, app="tests.e2e.stalls", conf=conf)
    result = stalls.tidy.delay(str(path), str(release))
    wait_for(lambda: "told" in path.read_text())
    wait_for(lambda: psutil.Process(started.pid).status() == "sleeping")
    started.send(number)
    wait_for(lambda: "Warm shutdown" in started.log or "Soft Shutdown" in started.log)
    time.sleep(1.5)  # in which Celery looks at the limits three times
    release.touch()
    started.process.wait(timeout=20)
    assert_finished(rows.get(result.id))
    assert result.get(timeout=5) == "tidy"
