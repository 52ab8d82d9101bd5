"""Somebody new gets one line that says what to do, and no traceback on top of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pgjobs_celery.embedded import EmbeddedServer

from ..support.waiting import wait_for
from .conftest import StartWorker

#: What somebody new has written.
PROGRAM = """
import json, os
{before}
from celery import Celery
app = Celery("proj", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(json.loads(os.environ.get("CONF", "{{}}")))

@app.task
def add(x, y):
    return x + y
"""
#: Celery as it was before what is needed: its and kombu's word for it is all that is looked at.
OLD = "import celery; celery.VERSION = (5, 4, 0); celery.__version__ = '5.4.0'"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, url: str) -> Run:
    """Run something with the program at hand."""

    def run(
        *words: str,
        broker: str = url,
        backend: str | None = None,
        before: str = "",
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "proj.py").write_text(PROGRAM.format(before=before))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**kept, "BROKER": broker, "BACKEND": backend or broker, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


WORKER = ("-m", "celery", "-A", "proj", "worker", "--pool", "solo")
BEAT = ("-m", "celery", "-A", "proj", "beat", "-S", "pgjobs_celery.beat:PgScheduler", "--pidfile=")
DELAY = ("-c", "from proj import add; add.delay(1, 2)")
SCHEDULES = ("-m", "celery", "-A", "proj", "pgjobs", "schedules", "list")
STATUS = ("-m", "celery", "-A", "proj", "pgjobs", "status")


def the_end(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    return (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]


def bare(url: str) -> str:
    return url.replace("pgjobs://", "postgresql://")


@pytest.mark.parametrize("words", [WORKER, BEAT])
def test_a_schema_that_is_missing_is_one_line(
    run: Run, make_database: Callable[[], str], words: tuple[str, ...]
) -> None:
    done = run(*words, broker=make_database())
    assert "run `celery -A proj pgjobs migrate`" in the_end(done)
    assert "Traceback" not in done.stderr + done.stdout


def test_who_publishes_without_a_schema_reads_it_last(
    run: Run, make_database: Callable[[], str]
) -> None:
    done = run(*DELAY, broker=make_database())
    assert the_end(done).startswith("pgjobs_celery.errors.SchemaMissing: ")
    assert "During handling" not in done.stderr
    assert "direct cause" not in done.stderr


@pytest.mark.parametrize("words", [WORKER, DELAY, STATUS])
@pytest.mark.parametrize("part", ["broker", "backend"])
def test_postgresqls_own_scheme_is_told_ours(
    run: Run, url: str, words: tuple[str, ...], part: str
) -> None:
    done = run(*words, broker=bare(url) if part == "broker" else url, backend=bare(url))
    if part == "backend" and words == STATUS:
        return  # it is the broker's database that it looks at
    assert "write pgjobs:// in place of postgresql://" in the_end(done)
    if words != DELAY:
        assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("words", [WORKER, DELAY, STATUS])
def test_without_libpq_it_says_what_to_install(run: Run, words: tuple[str, ...]) -> None:
    # As where there is none: this implementation is not installed.
    done = run(*words, PSYCOPG_IMPL="c")
    assert 'pip install "pgjobs-celery[binary]"' in the_end(done)
    if words != DELAY:
        assert "Traceback" not in done.stderr + done.stdout


#: The first command that somebody new gives; Celery loads it before it looks at the program.
MIGRATE = (
    "-c",
    f"{OLD}; import sys; sys.argv = 'celery -A proj pgjobs migrate --check'.split(); "
    "from celery.__main__ import main; main()",
)


@pytest.mark.parametrize("words", [WORKER, DELAY, MIGRATE])
def test_an_old_celery_is_refused_in_one_line(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words, before=OLD)
    assert the_end(done).endswith(
        'pgjobs-celery needs celery 5.5 or newer, and 5.4.0 is installed: pip install "celery>=5.5"'
    )
    if words != DELAY:
        assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    "words", [STATUS, (*STATUS[:-1], "jobs"), (*STATUS[:-1], "schedules", "list")]
)
def test_what_is_left_over_from_redis_is_said_once(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words, CONF=json.dumps({"broker_transport_options": {"priority_steps": [0, 5]}}))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("priority_steps") == 1
    assert "a Redis option, ignored here" in done.stderr
    assert "did you mean" not in done.stderr


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(
    worker: StartWorker, server: EmbeddedServer, pool: str
) -> None:
    started = worker(pool=pool, conf={"pgjobs_heartbeat_interval": 0.5})
    server.stop()
    try:
        wait_for(lambda: "no connection to the database" in started.log, 20, lambda: started.log)
        # Celery has tried twice, and each service of ours several times.
        wait_for(lambda: started.log.count("Trying again in") >= 2, 30, lambda: started.log)
    finally:
        server.start()
    wait_for(lambda: " again, after " in started.log, 30, lambda: started.log)
    assert started.stop() == 0
    ours = [line for line in started.log.splitlines() if "no connection" in line]
    assert len(ours) == 1
    assert started.log.count(" again, after ") == 1
