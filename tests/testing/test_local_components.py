"""pytest-celery on a local server, without Docker: what its users do, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgjobs_celery.errors import PgJobsError

ROOT = Path(__file__).parents[2]

TESTS = """
from types import ModuleType

import pytest
from pytest_celery import CeleryTestSetup

import tasks

pytest_plugins = ["pgjobs_celery.testing.local_components"]

@pytest.fixture
def default_worker_tasks(default_worker_tasks: set[ModuleType]) -> set[ModuleType]:
    return {*default_worker_tasks, tasks}

def test_a_task_runs(celery_setup: CeleryTestSetup):
    assert celery_setup.ready(ping=True, control=True)
    worker = celery_setup.worker
    assert celery_setup.app.conf.broker_url.startswith("pgjobs://")
    assert tasks.double.s(21).apply_async(queue=worker.worker_queue).get(timeout=10) == 42
    worker.assert_log_exists("succeeded")
    worker.kill()
    assert worker.container.status == "exited"
"""
TASKS = """
from celery import shared_task

@shared_task
def double(x):
    return 2 * x
"""


SCRIPT = """
import signal, sys
if sys.argv[1] == "broken":
    sys.exit("no broker")
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
print(sys.argv[1], "ready.", flush=True)
signal.pause()
"""


class Named:
    """What pytest-celery's class of worker containers says of its workers."""

    @staticmethod
    def worker_name() -> str:
        return "w"


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """A factory of processes that say, as a worker does, that they are ready."""
    components = pytest.importorskip("pgjobs_celery.testing.local_components")
    (tmp_path / "script.py").write_text(SCRIPT)

    def start(argument: str = "w@%h") -> Any:
        command = [sys.executable, "script.py", argument]
        return components.LocalWorkerProcess(tmp_path, command, {"SAID": "yes"}, Named)

    return start


def test_a_workers_process_is_started_restarted_and_killed(start):
    process = start()
    assert process.ready()
    assert process.exec_run(f"{sys.executable} -c \"import os; print(os.environ['SAID'])\"") == (
        0,
        b"yes\n",
    )
    first = process.pid
    process.restart()
    assert process.ready()
    assert process.pid != first
    process.kill()
    assert process.status == "exited"
    process.teardown()


def test_a_worker_that_leaves_before_it_is_ready_shows_its_log(start):
    process = start("broken")
    with pytest.raises(PgJobsError, match="no broker"):
        process.ready()


@pytest.mark.e2e
def test_pytest_celerys_fixtures_run_on_a_local_server(tmp_path: Path, server_url: str):
    pytest.importorskip("pytest_celery")
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "conftest.py").write_text("")
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--rootdir", str(tmp_path), "-c", os.devnull, "test_it.py"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "PGJOBS_TEST_DSN": server_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
