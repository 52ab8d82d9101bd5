"""What a worker says and does when the database is not, or not yet, as it needs it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from urllib.parse import quote

import psycopg
from celery import Celery

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer

from ..support.celery_process import run_celery
from ..support.waiting import wait_for
from . import tasks
from .conftest import ROOT, StartWorker

SECRET = "s3cr3t-of-the-app"


def test_a_worker_without_tables_says_how_to_make_them(
    worker: StartWorker, make_database: Callable[[], str]
) -> None:
    url = make_database()
    started = worker(pool="solo", broker=url, wait=False)

    wait_for(lambda: "pgjobs migrate" in started.log, 15, lambda: started.log)
    assert "does not exist" not in started.log  # PostgreSQL's words
    if started.process.poll() is None:
        try:
            started.process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            # It waits: then it goes on by itself.
            with migrations.session(parse_url(url)) as connection:
                migrations.migrate(connection, "pgjobs")
            wait_for(lambda: "ready." in started.log, 15, lambda: started.log)
            return
    assert started.process.returncode != 0
    assert started.log.count("pgjobs migrate") <= 3
    started.stop()


def test_a_worker_waits_for_a_server_that_is_not_there_yet(
    worker: StartWorker, app: Celery, server: EmbeddedServer, url: str
) -> None:
    server.stop()
    try:
        started = worker(pool="solo", wait=False)
        wait_for(lambda: "Cannot connect" in started.log, 15, lambda: started.log)
    finally:
        server.start()
    wait_for(lambda: "ready." in started.log, 15, lambda: started.log)
    assert tasks.add.delay(1, 2).get(timeout=10) == 3


def test_a_password_is_never_shown(worker: StartWorker) -> None:
    for host in ("127.0.0.1:1", "/nowhere"):
        where = f"127.0.0.1:1/app?host={quote(host)}" if host.startswith("/") else f"{host}/app"
        started = worker(
            pool="solo",
            broker=f"pgjobs://app:{SECRET}@{where}",
            args=["--loglevel", "DEBUG"],
            wait=False,
        )
        wait_for(lambda log=started: "annot connect" in log.log, 15, lambda log=started: log.log)
        started.kill()
        assert SECRET not in started.log
        assert "app" in started.log


def test_a_wrong_password_is_named_and_not_shown(
    worker: StartWorker, server: EmbeddedServer, database_url: str
) -> None:
    with psycopg.connect(parse_url(database_url), autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'right'")
    hba = server.data / "pg_hba.conf"
    rules = hba.read_text()
    hba.write_text(f"local all stranger scram-sha-256\n{rules}")
    try:
        with psycopg.connect(parse_url(database_url), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        broker = database_url.replace("postgres@", f"stranger:{SECRET}@", 1)
        started = worker(pool="solo", broker=broker, wait=False)
        wait_for(lambda: "password authentication failed" in started.log, 15)
        started.kill()
        assert SECRET not in started.log
    finally:
        hba.write_text(rules)
        with psycopg.connect(parse_url(database_url), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("DROP ROLE stranger")


def test_a_worker_goes_on_with_the_second_of_two_brokers(
    worker: StartWorker, app: Celery, url: str
) -> None:
    dead = f"pgjobs://app:{SECRET}@127.0.0.1:1/app"
    started = worker(pool="threads", broker=f"{dead};{url}", conf={"result_backend": url})
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
    assert SECRET not in started.log


def test_an_unknown_setting_ends_the_worker(url: str) -> None:
    done = run_celery(
        *("-A", "tests.e2e.tasks", "worker", "-P", "solo"),
        cwd=ROOT,
        env={
            **os.environ,
            "PGJOBS_TEST_URL": url,
            "PGJOBS_TEST_CONF": '{"pgjobs_heartbeat_intervall": 3}',
        },
        timeout=30,
    )
    assert done.returncode != 0
    assert "pgjobs_heartbeat_interval" in done.stdout + done.stderr
