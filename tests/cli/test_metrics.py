"""``celery pgjobs metrics``: prints, serves, and says in one line what is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen
from uuid import UUID

import psycopg

from pgjobs_celery.control.metrics import METRICS
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.job.outcome import completed
from pgjobs_celery.job.rows import Bucket
from tests.control.test_metrics import samples, value
from tests.support.celery_process import CeleryProcess, run_celery
from tests.support.rows import alive, put
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
NODE = UUID(int=1)
WORDS = ("pgjobs", "metrics", "--url")


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run_celery(*WORDS, *words, env={**os.environ, "PYTHONPATH": str(ROOT), **env})


@contextmanager
def served(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL that the command serves, and its process."""
    process = CeleryProcess(
        [*WORDS, *words, "--address", "127.0.0.1", "--port", "0"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"on port (\d+)$", line)
        assert found, line
        yield f"http://127.0.0.1:{found[1]}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdout.close()


def test_it_prints_for_prometheus_and_for_others(url, database):
    put(database, "a")
    done = run(url)
    assert done.returncode == 0, done.stderr
    assert samples(done.stdout)
    data = json.loads(run(url, "--json").stdout)
    assert set(data) == set(METRICS)
    assert data["pgjobs_max_connections"][0]["value"] > 0


def test_it_serves_and_counts_where_no_worker_does(url, database):
    alive(database, NODE)
    with served(url) as (place, process):
        put(database, "a")
        (claim,) = database.claims.claim_jobs(NODE, "n", [Bucket("celery", 0, 255, 0)], 1)[0]
        database.claims.settle_jobs(NODE, [completed(claim)])
        with psycopg.connect(parse_url(url), autocommit=True) as connection:
            # The command looks every five seconds.
            connection.execute("UPDATE pgjobs.fold SET folded_at = '-infinity'")

        def scrape(accept: str = "") -> str:
            request = Request(f"{place}/metrics", headers={"Accept": accept})
            with urlopen(request, timeout=10) as response:
                assert response.status == 200
                text: str = response.read().decode()
                return text

        name = {"name": "tasks.add", "queue_name": "celery"}
        wait_for(
            lambda: ("celery_task_succeeded_total", frozenset(name.items())) in samples(scrape())
        )
        assert value(samples(scrape()), "celery_task_succeeded_total", **name) == 1
        assert scrape("application/openmetrics-text").endswith("# EOF\n")
    assert process.returncode == 0


def test_a_role_that_may_only_read_may_scrape(url, database):
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS pgjobs_scraper")
        connection.execute("CREATE ROLE pgjobs_scraper LOGIN PASSWORD 't0p-s3cret'")
        try:
            theirs = url.replace("://postgres@", "://pgjobs_scraper:t0p-s3cret@")
            refused = run(theirs)
            assert refused.returncode == 1
            grant = re.search(r"GRANT .*;", refused.stderr)
            assert grant, refused.stderr
            connection.execute(grant[0])
            with served(theirs) as (place, _), urlopen(f"{place}/metrics", timeout=10) as response:
                assert samples(response.read().decode())
        finally:
            connection.execute("DROP OWNED BY pgjobs_scraper; DROP ROLE pgjobs_scraper")


def test_a_port_that_is_taken_is_named(url):
    with served(url) as (place, _):
        port = place.rpartition(":")[2]
        done = run(url, "--port", port, "--address", "127.0.0.1")
    assert done.returncode == 1
    assert done.stderr == f"Error: port {port} at 127.0.0.1 cannot be had: Address already in use\n"


def test_without_prometheus_client_it_says_what_to_install(url, tmp_path):
    (tmp_path / "prometheus_client").mkdir()
    (tmp_path / "prometheus_client" / "__init__.py").write_text("raise ImportError")
    done = run(url, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: metrics need prometheus-client: pip install 'pgjobs-celery[metrics]'\n"
    )
    assert run(url, "--json", PYTHONPATH=f"{tmp_path}:{ROOT}").returncode == 0


def test_without_a_schema_it_says_so_in_one_line(bare_database, make_database):
    done = run(make_database())
    assert done.returncode == 1
    assert "migrate" in done.stderr
    assert len(done.stderr.splitlines()) == 1
