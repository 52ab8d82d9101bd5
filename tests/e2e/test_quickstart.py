from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.embedded import EmbeddedServer

from ..support.waiting import wait_for

ROOT = Path(__file__).parents[2]
RUN = ROOT / "examples" / "quickstart" / "run.py"

#: Seconds in which a run has to be over, on a machine that does other things as well.
LIMIT = 180


def to_dsn(url: str) -> str:
    return url.replace("pgjobs://", "postgresql://", 1)


def environment(dsn: str | None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name != "PGJOBS_DSN"}
    return {**env, "PGJOBS_DSN": dsn, "COLUMNS": "120"} if dsn else {**env, "COLUMNS": "120"}


def run(*args: str, dsn: str | None = None, script: Path = RUN) -> tuple[int, str]:
    """Run the quickstart to its end; its exit code and what it printed."""
    result = subprocess.run(
        [sys.executable, script, *args],
        env=environment(dsn),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return result.returncode, result.stdout


@contextmanager
def started(dsn: str | None = None) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The quickstart on its way, its worker started, and every process that belongs to it."""
    process = subprocess.Popen(
        [sys.executable, "-u", RUN],
        env=environment(dsn),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A process group of its own, as a terminal gives to what it runs.
        start_new_session=True,
    )
    family: list[psutil.Process] = []
    try:
        assert process.stdout
        seen = ""
        for line in process.stdout:
            seen += line
            if "Published" in line:
                break
        else:
            pytest.fail(f"the quickstart did not come as far as publishing:\n{seen}")
        family += psutil.Process(process.pid).children(recursive=True)
        server = re.search(r"socket in (\S+)", seen)
        if server:
            family.append(psutil.Process(int(EmbeddedServer(server[1]).pid or 0)))
        yield process, family
    finally:
        for left in [p for p in family if p.is_running()]:
            left.kill()
        if process.poll() is None:
            process.kill()
        process.communicate()


def are_gone(family: list[psutil.Process]) -> bool:
    """True once none of them runs; a container without an init leaves orphans as zombies."""
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in family)


def fetch(url: str, query: str) -> dict[Any, Any]:
    with psycopg.connect(parse_url(url)) as connection:
        return dict(connection.execute(query).fetchall())


@pytest.fixture(scope="module")
def finished(make_database: Callable[[], str]) -> tuple[str, str]:
    """The URL of a reader's own database, and what a run of the quickstart on it printed."""
    url = make_database()
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS one")
    dsn = psycopg.conninfo.make_conninfo(parse_url(url), password="hush")
    code, output = run(dsn=dsn)
    assert code == 0, output
    return url, output


def test_the_quickstart_runs_on_the_readers_own_server(finished: tuple[str, str]):
    url, output = finished
    states = fetch(url, "SELECT state, count(*) FROM pgjobs.job_details GROUP BY state")
    assert states == {"completed": 251, "discarded": 1, "cancelled": 1}
    retried = fetch(url, "SELECT task, attempt FROM pgjobs.jobs WHERE attempt > 1")
    assert retried == {"tasks.ask_slow_source": 3}
    # What failed before is in errors; the result is that of the attempt that succeeded.
    query = "SELECT jsonb_array_length(errors), traceback FROM pgjobs.jobs WHERE attempt = 3"
    assert fetch(url, query) == {2: None}
    assert fetch(url, "SELECT one, one FROM mine") == {1: 1}
    for shown in (
        r"completed +│ +251",
        r"Four that were special",
        r"fails and retries +│ completed +│ +3 │ 2 errors, then America/Santiago 20",
        r"fails for good +│ discarded +│ +1 │ ZoneInfoNotFoundError: .*Mars/Olympus_Mons",
        # Celery before 5.6 takes the job to find that it was revoked.
        r"cancelled +│ cancelled +│ +[01] │ result\.state is REVOKED",
        r"The next clock changes",
        r"DROP SCHEMA pgjobs CASCADE",
    ):
        assert re.search(shown, output), f"{shown!r} is not in\n{output}"


def test_the_queries_that_the_quickstart_shows_work(finished: tuple[str, str]):
    url, output = finished
    text = output[output.index("Look at the rows") : output.index("DROP SCHEMA")]
    queries = re.findall(r"SELECT[^;]+;", text)
    assert len(queries) == 3
    with psycopg.connect(parse_url(url)) as connection:
        for query in queries:
            assert connection.execute(query).fetchall(), query


def test_a_password_is_not_shown(finished: tuple[str, str]):
    assert "hush" not in finished[1]


def test_ctrl_c_stops_the_quickstart_and_all_it_has_started():
    with started() as (process, family):
        assert len(family) >= 4  # worker, its guard, the server, its guard
        folders = [Path(p.cmdline()[2]) for p in family if "postgres" in p.name()]
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 130, output
        assert "Everything that was started has been stopped" in output
        wait_for(lambda: are_gone(family), 5, lambda: family)
        assert folders
        assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killing_the_quickstart_stops_all_it_has_started(
    make_database: Callable[[], str], number: signal.Signals
):
    with started(to_dsn(make_database())) as (process, family):
        process.send_signal(number)
        process.communicate(timeout=20)
        wait_for(lambda: are_gone(family), 5, lambda: family)


def test_a_worker_that_dies_is_reported_with_its_log(make_database: Callable[[], str]):
    with started(to_dsn(make_database())) as (process, family):
        worker = next(p for p in family if "worker" in p.cmdline())
        worker.kill()
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 1, output
        assert "the worker ended with exit code -9" in output
        assert "The end of the worker's log" in output


def test_a_server_that_is_not_there_is_a_clear_error():
    code, output = run(dsn="postgresql://postgres:hush@127.0.0.1:1/none")
    assert code == 1
    assert "127.0.0.1" in output
    assert "hush" not in output
    assert "Traceback" not in output


def test_a_kept_server_and_its_page_run_on_until_they_are_stopped(tmp_path: Path):
    script = tmp_path / "examples" / "quickstart" / "run.py"
    shutil.copytree(RUN.parent, script.parent)
    code, output = run("--keep", script=script)
    assert code == 0, output
    path = Path((tmp_path / ".demo" / "server").read_text().strip())
    try:
        server = EmbeddedServer(path)
        assert server.is_running()
        assert "make demo-stop" in output
        psql = re.search(r"^ +(\S*psql '.*')$", output, re.MULTILINE)
        assert psql, output
        query = f"{psql[1]} -Atc 'SELECT count(*) FROM pgjobs.job_details'"
        assert subprocess.check_output(query, shell=True, text=True).strip() == "253"
        page = re.search(r"http://127\.0\.0\.1:\d+/", output)
        assert page, output
        assert ">Overview</h1>" in httpx.get(page[0]).raise_for_status().text
    finally:
        code, output = run("--stop", script=script)
    assert code == 0, output
    assert not path.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(page[0])
    assert run("--stop", script=script) == (0, "No demo server was kept.\n")
