"""A server that has no connection left is waited for: nothing is lost, and no worker ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import psycopg.rows
import pytest

from pgjobs_celery.db import scratch as databases
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.embedded import EmbeddedServer

from ..support.waiting import wait_for
from .conftest import ROOT, running_workers
from .rows import Rows

#: Fewer than five workers, their ten children and four publishers want: 15, 10 and 4.
CONNECTIONS = 20
WORKERS, PUBLISHERS, EACH = 5, 4, 15

#: A child that never met the full server keeps its connection for ``idle_timeout``, 10 s after its
#: last task; a publisher waits for its first one for ``connect_timeout``, 4 s where nobody says so.
PATIENT = {"broker_transport_options": {"connect_timeout": 60.0}}

PUBLISH = f"""
from tests.e2e.tasks import relay
for number in range({EACH}):
    print(relay.delay(number).id, flush=True)
"""


@pytest.fixture(scope="module")
def small_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database on a server with few connections, of this module's own."""
    with EmbeddedServer(settings={"max_connections": CONNECTIONS}) as server:
        databases.create_database(server.url, "small")
        url = urlunsplit(urlsplit(server.url)._replace(path="/small"))
        databases.migrate_database(url)
        yield url


@pytest.mark.timeout(180)
def test_workers_and_publishers_share_a_server_that_is_too_small(
    small_url: str, tmp_path: Path
) -> None:
    env = {**os.environ, "PGJOBS_TEST_URL": small_url, "PGJOBS_TEST_CONF": json.dumps(PATIENT)}
    env.pop("PGJOBS_TEST_READY", None)
    # It has a place of its own while there is one.
    with (
        psycopg.connect(
            parse_url(small_url), autocommit=True, row_factory=psycopg.rows.dict_row
        ) as connection,
        running_workers(small_url, tmp_path) as start,
    ):
        rows = Rows(connection)
        workers = [start(pool="prefork", concurrency=2) for _ in range(WORKERS)]
        publishers = [
            subprocess.Popen(
                [sys.executable, "-c", PUBLISH],
                cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for _ in range(PUBLISHERS)
        ]  # fmt: skip
        outputs = [publisher.communicate(timeout=120) for publisher in publishers]
        assert [publisher.returncode for publisher in publishers] == [0] * PUBLISHERS, outputs
        published = [line for out, _ in outputs for line in out.split()]
        assert len(published) == PUBLISHERS * EACH
        # Each has published another one, from a child.
        wait_for(lambda: rows.count() == {"completed": 2 * len(published)}, 60, rows.count)
        assert all(worker.process.poll() is None for worker in workers)
        logs = [worker.log for worker in workers] + [err for _, err in outputs]
        warned = [log.count("has no connection left") for log in logs]
        assert sum(warned) >= 1  # or the server was not too small
        assert max(warned) <= 4  # once for each process: a worker has three
        assert not any("Traceback" in log for log in logs)

        # Who has nothing to do keeps nothing that others want.
        def sessions() -> int:
            (row,) = rows.select(
                "SELECT count(*) AS n FROM pg_stat_activity"
                " WHERE application_name = 'pgjobs-celery' AND datname = current_database()"
            )
            return int(row["n"])

        wait_for(lambda: sessions() <= 3 * WORKERS, 40, sessions)
