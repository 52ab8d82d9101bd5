"""Each job books one row and publishes one follower, while everything breaks.

``make effects JOBS=10000`` says how many; in the suite there are few. The control does the same
without ``self.transaction()``: it must fail, or this could not.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import psycopg
import pytest

from ..conftest import close_app
from ..e2e.conftest import StartWorker, Worker, running_workers
from ..support.proxies import Proxy
from ..support.waiting import wait_for
from . import effects
from .breaking import CONF
from .systems import Pooled, Replicated, System, running_system

#: 0: a few, in the suite.
JOBS = int(os.environ.get("PGJOBS_EFFECTS_JOBS", "0"))
SEED = int(os.environ.get("PGJOBS_CHAOS_SEED", "1"))
LEASE = CONF["pgjobs_lease"]
KINDS: list[type[System]] = [System, Pooled, Replicated] if JOBS else [System]

#: As if the network had done it: of all sessions but ours.
CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND backend_type = 'client backend'
"""

COUNTS = """
    SELECT count(*) FILTER (WHERE state = 'completed') AS completed,
           count(*) FILTER (WHERE finished_at IS NULL) AS open,
           coalesce(sum(attempt), 0) AS attempts,
           (SELECT count(*) FROM ledger) AS ledger,
           (SELECT count(DISTINCT job) FROM ledger) AS booked,
           (SELECT count(*) FROM ledger AS l JOIN pgjobs.jobs AS b ON b.task_id = l.job
            WHERE b.attempt = l.attempt AND b.state = 'completed') AS matching,
           (SELECT count(*) FROM pgjobs.jobs AS f WHERE f.task = 'effects.follow') AS followers,
           (SELECT count(DISTINCT parent_id) FROM pgjobs.jobs AS f
            WHERE f.task = 'effects.follow') AS followed
    FROM pgjobs.jobs AS j
    WHERE j.task = %s
"""


class Counts(NamedTuple):
    """The rows when all jobs have ended."""

    completed: int
    open: int
    attempts: int
    ledger: int
    booked: int
    matching: int
    followers: int
    followed: int


class Breaking:
    """Two workers, and what is done to them, to their connections and to the server."""

    def __init__(
        self, system: System, start: StartWorker, proxy: Proxy | None, dice: random.Random
    ) -> None:
        self._system, self._start, self._proxy, self._dice = system, start, proxy, dice
        self.done: Counter[str] = Counter()
        self._pools = iter(["prefork", "threads", "prefork", "solo"] * 1000)
        self._workers = [self._add(), self._add()]

    def faults(self) -> list[Callable[[], None]]:
        found = [self.kill_child] * 3 + [self.kill_worker, self.kill_main, self.stop, self.cut]
        if self._proxy is not None:
            found += [self.cut_commit] * 6
        if isinstance(self._system, Replicated):
            return found + ([self.fail_over] if not self.done["fail_over"] else [])
        return [*found, self.crash]

    def inflict(self, fault: Callable[[], None]) -> None:
        self.done[fault.__name__] += 1
        with suppress(psutil.NoSuchProcess, ProcessLookupError, psycopg.OperationalError):
            fault()

    def kill_child(self) -> None:
        worker = self._dice.choice(self._workers)
        if children := worker.children():
            os.kill(self._dice.choice(children), signal.SIGKILL)

    def kill_worker(self) -> None:
        self._replace().kill()

    def kill_main(self) -> None:
        self._replace().send(signal.SIGKILL)

    def stop(self) -> None:
        """For longer than its lease; its jobs are taken, and then it goes on."""
        worker = self._dice.choice(self._workers)
        os.killpg(worker.pid, signal.SIGSTOP)
        time.sleep(LEASE + 1.5)  # the fault itself
        os.killpg(worker.pid, signal.SIGCONT)

    def cut(self) -> None:
        with self._system.connect() as connection:
            connection.execute(CUT)

    def cut_commit(self) -> None:
        """Before it, unheard of by the server or not; or its answer."""
        assert self._proxy is not None
        how = self._dice.choice(["before", "unheard", "after", "outcome"])
        if how == "after":
            self._proxy.cut_answer("COMMIT")
        elif how == "outcome":
            self._proxy.cut_answer("pg_current_xact_id")
        else:
            self._proxy.cut_question("COMMIT", keeps_server=how == "unheard")

    def crash(self) -> None:
        self._system.crash()

    def fail_over(self) -> None:
        assert isinstance(self._system, Replicated)
        self._system.fail_over()

    def _replace(self) -> Worker:
        worker = self._workers.pop(self._dice.randrange(len(self._workers)))
        self._workers.append(self._add())
        return worker

    def _add(self) -> Worker:
        env = {} if self._proxy is None else {"PGJOBS_CHAOS_LEDGER": self._proxy.url}
        return self._start(
            app="tests.chaos.effects",
            pool=next(self._pools),
            concurrency=3,
            conf={**CONF, **self._system.conf},
            env=env,
            wait=False,
        )


@contextmanager
def broken(kind: type[System], folder: Path, dice: random.Random) -> Iterator[Breaking]:
    """A system with two workers, and faults for it."""
    with running_system(kind) as system, ExitStack() as stack:
        with system.connect() as connection:
            connection.execute(effects.TABLE)
        conf = {"broker_url": system.url, "result_backend": system.url, **system.conf}
        effects.app.conf.update(conf)
        proxy = None if kind is Replicated else stack.enter_context(Proxy(system.url))
        start = stack.enter_context(running_workers(system.url, folder, lambda _: None))
        yield Breaking(system, start, proxy, dice)
        close_app(effects.app)


def run(kind: type[System], task: Any, count: int, folder: Path) -> tuple[Counts, Breaking]:
    """Run so many jobs through it; the counts at the end."""
    dice = random.Random(SEED)
    with broken(kind, folder, dice) as breaking:
        system = breaking._system
        task.enqueue_many(() for _ in range(count))
        rest: list[Callable[[], None]] = []
        while counted(system, task).open > count // 10:
            if not rest:
                rest = breaking.faults()
                dice.shuffle(rest)
            breaking.inflict(rest.pop())
            time.sleep(dice.uniform(0.1, 0.8))  # the schedule of the faults
        wait_for(
            lambda: not counted(system, task).open, max(120.0, count / 20),
            lambda: counted(system, task),
        )  # fmt: skip
        return counted(system, task), breaking


def counted(system: System, task: Any) -> Counts:
    def look() -> Counts | None:
        with suppress(psycopg.OperationalError), system.connect() as connection:
            return Counts(*connection.execute(COUNTS, [task.name]).fetchone())  # type: ignore[misc]
        return None

    return wait_for(look, 60)


@pytest.mark.timeout(3600 if JOBS else 300)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_ledger_rows_completed_jobs_and_followers_are_the_same(
    kind: type[System], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    count = JOBS or 300
    begun = time.monotonic()
    counts, breaking = run(kind, effects.exact, count, tmp_path)
    report(kind.name, counts, breaking, time.monotonic() - begun, capsys)
    assert counts.completed == count
    assert (counts.ledger, counts.booked, counts.matching) == (count, count, count)
    assert (counts.followers, counts.followed) == (count, count)


@pytest.mark.skipif(not JOBS, reason="needs many faults: make effects JOBS=2000")
@pytest.mark.timeout(3600)
def test_without_it_they_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    begun = time.monotonic()
    counts, breaking = run(System, effects.plain, min(JOBS, 3000), tmp_path)
    report("control", counts, breaking, time.monotonic() - begun, capsys)
    assert counts.ledger > counts.completed
    assert counts.followers > counts.completed


def report(name: str, counts: Counts, breaking: Breaking, seconds: float, capsys: Any) -> None:
    if not JOBS:
        return
    with capsys.disabled():
        print(f"\n{name}, seed {SEED}, {seconds:.0f} s: {counts._asdict()}")
        print(f"  {sum(breaking.done.values())} faults {dict(breaking.done)}")
