"""Load a worker with everything at once, for as long as you like; then count what it still holds.

Two workers share the queue. One stays, and must hold at the end what it held at first; the other is
told to leave, in each way, again and again. ``make soak`` goes on for PGJOBS_SOAK_SECONDS, with
PGJOBS_SOAK_SEED for the dice.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Connection, close_app
from ..e2e.conftest import StartWorker, Worker, running_workers
from ..support.waiting import wait_for

pytest.importorskip("greenlet")

from . import tasks
from .load import ENDS, Load

SECONDS = float(os.environ.get("PGJOBS_SOAK_SECONDS", "20"))
SEED = int(os.environ.get("PGJOBS_SOAK_SEED", "1"))

CUSTOM = {"CELERY_CUSTOM_WORKER_POOL": "pgjobs_celery.worker.aio:TaskPool"}

#: How many jobs are published at a time, and how long each such round may take to end.
ROUND, PATIENCE = 150, 90.0

#: How a worker is told to leave, and its settings.
LEAVING: dict[str, tuple[int, dict[str, Any]]] = {
    "warm": (signal.SIGTERM, {}),
    "soft": (signal.SIGQUIT, {"worker_soft_shutdown_timeout": 1.0}),
    "cold": (signal.SIGQUIT, {}),
}

#: Connections of two workers, three each and one where their threads have waited for one, of the
#: one that leaves meanwhile, and of this process, which cancels in as many threads as it likes.
CONNECTED = 3 * 4 + 20

#: What no worker may say.
FORBIDDEN = (
    "was never awaited", "was destroyed but it is pending", "exception was never retrieved",
    "goes on although", "the report of task", "Unclosed", "ResourceWarning",
)  # fmt: skip

#: How much more of each the worker may hold at the end than when it was first at rest: connections
#: where threads waited for one, and threads that publish for coroutines, four at the most.
MARGINS = {"descriptors": 8, "threads": 4, "tracebacks": 5, "coroutines": 2}
#: How much memory may have grown in the second half of a run of minutes, in bytes.
GROWTH = 4 * 1024 * 1024

UNFINISHED = "SELECT task, state, attempt FROM pgjobs.jobs WHERE finished_at IS NULL LIMIT 20"
CONNECTIONS = (
    "SELECT count(*) AS n FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'pgjobs-celery' "
    "AND backend_start > %s"
)
WRONG = (
    "SELECT task, state, count(*) AS n FROM pgjobs.jobs WHERE attempted_by = %s "
    "AND state <> (%s::jsonb ->> split_part(task, '.', 4)) GROUP BY 1, 2"
)


class Leaver:
    """The worker that is told to leave, and followed by another."""

    def __init__(self, start: StartWorker) -> None:
        self._start = start
        self._ways: Iterator[str] = cycle(LEAVING)
        self.done: Counter[str] = Counter()
        self.gone: list[Worker] = []
        self._come()

    def leave(self) -> None:
        """It leaves, and must have left within the limit of all workers."""
        self.done[self._way] += 1
        self.worker.stop(LEAVING[self._way][0], timeout=40)
        self.gone.append(self.worker)
        self._come()

    def _come(self) -> None:
        self._way = next(self._ways)
        self.worker = self._start(
            app="tests.soak.tasks", pool="custom", env=CUSTOM, concurrency=40,
            conf=LEAVING[self._way][1],
        )  # fmt: skip


@pytest.mark.timeout(3 * SECONDS + 300)
def test_a_worker_holds_nothing_after_all_kinds_of_ends(
    url: str, connection: Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks.app.conf.update(broker_url=url, result_backend=url)
    load = Load(random.Random(SEED))
    # Tests before this one may have left connections of this process, for seconds.
    began = connection.execute("SELECT clock_timestamp() AS now").fetchall()[0]["now"]
    with running_workers(url, tmp_path) as start:
        staying = start(app="tests.soak.tasks", pool="custom", env=CUSTOM, concurrency=100)
        leaver = Leaver(start)
        counts: list[dict[str, Any]] = []
        connections: list[int] = []
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline or len(counts) < 3:
            load.publish(ROUND)
            if counts:
                leaver.leave()
            load.wait()
            rest(connection)
            counts.append(take_census(staying))
            connections.append(count_connections(connection, began))
        workers = [staying, leaver.worker, *leaver.gone]
        lines = [line for each in workers for line in each.log.splitlines()]
        wrong = wrong_ends(connection, staying)
    close_app(tasks.app)
    ended = connection.execute("SELECT count(*) AS n FROM pgjobs.jobs").fetchall()[0]["n"]
    with capsys.disabled():
        print(f"\n{ended} jobs in {len(counts)} rounds, {dict(leaver.done)} shutdowns")
        print(f"  load {os.getloadavg()[0]:.1f}; connections {connections}")
        for name in counts[0]:
            print(f"  {name}: {[each[name] for each in counts]}")
    assert wrong == []
    assert [line for line in lines if any(word in line for word in FORBIDDEN)] == []
    assert max(connections) <= CONNECTED
    assert grown(counts[0], counts[-1]) == {}
    if SECONDS >= 300:
        assert growth([each["rss"] for each in counts]) < GROWTH


def rest(connection: Connection) -> None:
    """Wait until each job has ended."""
    unfinished: Callable[[], Any] = lambda: connection.execute(UNFINISHED).fetchall()  # noqa: E731
    wait_for(lambda: not unfinished(), PATIENCE, unfinished)


def take_census(worker: Worker) -> dict[str, Any]:
    """What the worker holds, once its pool is empty."""
    seen: list[Any] = []

    def ask() -> Any:
        replies = tasks.app.control.broadcast(
            "census", destination=[worker.name], reply=True, timeout=10, limit=1
        )
        found = replies[0][worker.name] if replies else {}
        seen.append(found)
        # What a task has forgotten ends by itself, soon.
        return found if found.get("in the pool") == 0 and found["asyncio tasks"] == 0 else None

    counted: dict[str, Any] = wait_for(ask, 60, lambda: seen[-1:])
    return counted


def count_connections(connection: Connection, began: datetime) -> int:
    """How many connections the workers and this process have, of those since then."""
    return int(connection.execute(CONNECTIONS, (began,)).fetchall()[0]["n"])


def wrong_ends(connection: Connection, worker: Worker) -> list[Any]:
    """Jobs of the worker that stays which ended as they must not."""
    from psycopg.types.json import Json

    return connection.execute(WRONG, (worker.name, Json(ENDS))).fetchall()


def grown(first: dict[str, Any], last: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """What the worker holds more of than it may."""
    return {
        name: (first[name], last[name])
        for name in first
        if name != "rss" and last[name] > first[name] + MARGINS.get(name, 0)
    }


def growth(sizes: list[int]) -> float:
    """How much larger the last quarter is than the second."""
    quarter = len(sizes) // 4
    return statistics.median(sizes[-quarter:]) - statistics.median(sizes[quarter : 2 * quarter])
