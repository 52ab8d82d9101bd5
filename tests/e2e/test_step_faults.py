"""Steps while children and workers are killed and stalled, and connections are cut.

``PGJOBS_FAULT_JOBS=10000`` for a long run.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest
from celery import Celery

from pgjobs_celery import bulk, jobs

from ..conftest import Connection
from . import steptasks
from .conftest import StartWorker, Worker, producing
from .rows import Rows
from .test_rescue import QUICK

COUNT = int(os.environ.get("PGJOBS_FAULT_JOBS", "150"))
#: Seconds between two faults.
PAUSE = 0.4


@pytest.fixture
def step_app(url: str) -> Iterator[Celery]:
    with producing(steptasks.app, url) as app:
        yield app


@pytest.fixture
def tables(connection: Connection) -> Iterator[None]:
    connection.execute("DROP TABLE IF EXISTS public.ledger")  # that of other tests
    connection.execute("CREATE TABLE public.ledger (task_id text, token text)")
    connection.execute("CREATE TABLE public.seen (task_id text, step text, token text)")
    yield
    connection.execute("DROP TABLE public.ledger, public.seen")


class Faults:
    """Two workers, and what happens to them."""

    def __init__(self, worker: StartWorker, connection: Connection, seed: int) -> None:
        self._worker = worker
        self._connection = connection
        self._random = random.Random(seed)
        self.workers = [self.start(), self.start()]
        self.counts: dict[str, int] = {}

    def start(self) -> Worker:
        return self._worker(app="tests.e2e.steptasks", concurrency=2, conf=QUICK)

    def happen(self) -> None:
        """One of them, at random: the cheap ones more often."""
        kinds = ["cut", "child", "child", "cut", "worker", "stall", "leave"]
        kind = self._random.choice(kinds)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        getattr(self, kind)()

    def cut(self) -> None:
        self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND random() < 0.3"
        )

    def child(self) -> None:
        with suppress(psutil.Error, ProcessLookupError, IndexError):
            children = self._random.choice(self.workers).children()
            os.kill(self._random.choice(children), signal.SIGKILL)

    def worker(self) -> None:
        index = self._random.randrange(2)
        self.workers[index].kill()
        self.workers[index] = self.start()

    def leave(self) -> None:
        """A shutdown that does not wait."""
        index = self._random.randrange(2)
        self.workers[index].stop(signal.SIGQUIT)
        self.workers[index] = self.start()

    def stall(self) -> None:
        """A worker and its children stand still for longer than its lease."""
        group = self._random.choice(self.workers).pid
        os.killpg(group, signal.SIGSTOP)
        time.sleep(QUICK["pgjobs_lease"] + 3)
        os.killpg(group, signal.SIGCONT)


@pytest.mark.timeout(120 + 2 * COUNT)
def test_each_step_is_done_once_whatever_happens(
    step_app: Celery, worker: StartWorker, rows: Rows, connection: Connection, tables: None
):
    with bulk():
        results = [steptasks.endure.delay() for _ in range(COUNT)]
    faults = Faults(worker, connection, seed=COUNT)
    begun = time.monotonic()
    while unfinished(step_app) and time.monotonic() < begun + 60 + COUNT:
        time.sleep(PAUSE)
        if len(faults.counts) < 5 or time.monotonic() < begun + COUNT / 10:
            faults.happen()
    print(f"{COUNT} jobs in {time.monotonic() - begun:.0f} s, {faults.counts}")
    states = rows.select("SELECT state, count(*) AS n FROM pgjobs.jobs GROUP BY state")
    assert {row["state"]: row["n"] for row in states} == {"completed": COUNT}
    returned = {result.id: result.get(timeout=10) for result in results}
    ledger = rows.select("SELECT task_id, token FROM public.ledger ORDER BY task_id")
    # Rows and memory agree: one for each job, and the one that it knows of.
    assert [(row["task_id"], row["token"]) for row in ledger] == sorted(
        (id, tokens["book"]) for id, tokens in returned.items()
    )
    # What a step has returned once, it returned in every later run.
    seen = rows.select("SELECT DISTINCT task_id, step, token FROM public.seen")
    assert {(row["task_id"], row["step"], row["token"]) for row in seen} == {
        (id, step, token) for id, tokens in returned.items() for step, token in tokens.items()
    }
    print(summary(rows))


def unfinished(app: Celery) -> int:
    return sum(n for state, n in jobs(app).count_by_state().items() if not state.is_final)


def summary(rows: Rows) -> Any:
    return rows.select(
        "SELECT sum(attempt) AS runs, count(*) FILTER (WHERE attempt > 1) AS repeated,"
        " sum((meta->>'interrupted')::int) AS interrupted, max(attempt) AS most,"
        " (SELECT count(*) FROM public.seen) AS seen FROM pgjobs.jobs"
    )
