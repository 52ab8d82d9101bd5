"""pytest-celery on a local server, without Docker: what its users do, in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
from types import ModuleType

import pytest
from pytest_celery import RESULT_TIMEOUT, CeleryTestSetup, ping

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
    worker.restart()
    assert ping.s().apply_async(queue=worker.worker_queue).get(timeout=10) == "pong"
    worker.kill()
    assert worker.container.status == "exited"
"""
TASKS = """
from celery import shared_task

@shared_task
def double(x):
    return 2 * x
"""


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
