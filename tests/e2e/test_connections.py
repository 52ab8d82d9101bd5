"""How many connections and transactions a worker costs."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest
from celery import Celery
from psycopg import sql

from pgjobs_celery import bulk
from pgjobs_celery.embedded import EmbeddedServer

from ..conftest import Connection
from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows

#: For how long an idle worker is watched, in seconds: a multiple of its intervals of 2 and 5.
WATCH = 10.0


def sessions(rows: Rows) -> int:
    """How many sessions there are beside this one."""
    (row,) = rows.select(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'pgjobs-celery' AND backend_type = 'client backend'"
    )
    return int(row["n"])


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_needs_at_most_three_connections(
    pool: str, worker: StartWorker, app: Celery, rows: Rows
) -> None:
    with bulk():
        for _ in range(2000):
            tasks.ignored.delay("/dev/null")
        for _ in range(500):
            tasks.add.delay(1, 2)
    app.pool.force_close_all()
    tasks_sessions = sessions(rows)
    worker(pool=pool, concurrency=10 if pool == "threads" else 2)
    seen: Counter[int] = Counter()

    def is_drained() -> bool:
        seen[sessions(rows) - tasks_sessions] += 1
        return rows.count() == {"completed": 2500}

    wait_for(is_drained, 60)
    # A thread that has waited for 50 ms opens one more: a busy machine's worker has one for each of
    # the threads that write, its heartbeat and what listens. It never has one for each task.
    assert 1 <= min(seen) <= 3
    assert max(seen) <= 5


def test_a_pool_child_connects_only_to_publish(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    started = worker(pool="prefork", concurrency=2)
    before = sessions(rows)
    tasks.add.delay(1, 2).get(timeout=10)
    mine = sessions(rows)
    wait_for(lambda: sessions(rows) <= max(before, mine))
    for number in range(20):
        tasks.record.delay(str(tmp_path / "lines"), number)
    rows.wait_count(completed=21)
    without = sessions(rows)
    tasks.publish_child.delay(1, 2).get(timeout=10)
    rows.wait_count(completed=23)
    assert sessions(rows) == without + 1
    assert started.stop() == 0


def test_an_idle_worker_is_quiet(
    worker: StartWorker, connection: Connection, rows: Rows, server: EmbeddedServer
) -> None:
    # By the server's log: what sessions report to pg_stat_database comes up to ten seconds late.
    database = sql.Identifier(connection.info.dbname)
    log_all = sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(database)
    connection.execute(log_all)
    before = sessions(rows)
    try:
        worker(pool="prefork", concurrency=2)
        wait_for(lambda: len(rows.nodes()) == 1)
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 1, message="the rest of its start")
        began, start = time.monotonic(), len(server.log.read_text())
        wait_for(lambda: time.monotonic() - began > WATCH, WATCH + 5)
        ran = re.findall(r"LOG:  (?:execute|statement:?) (\S+)", server.log.read_text()[start:])
    finally:
        connection.execute(sql.SQL("ALTER DATABASE {} RESET log_statement").format(database))
    # These share the transaction of a claim, or of what follows.
    shared = {"pin_plans", "find_laned", "look_ahead"}
    seen = Counter(name for name in ran if name.rstrip(":") not in shared)
    print(f"an idle worker: {seen.total() / WATCH:.2f} transactions a second: {seen}")
    assert 0 < seen.total() / WATCH < 2.3
    assert sessions(rows) - before <= 3
