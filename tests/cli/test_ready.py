"""``celery pgjobs ready``: 0 or 1, and why."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from pgjobs_celery.cli.ready import judge
from pgjobs_celery.db.rows.metrics import WorkerRow
from tests.support.celery_process import run_celery

ROOT = Path(__file__).parents[2]


def row(name: str, *, is_alive: bool = True) -> WorkerRow:
    return WorkerRow(UUID(int=1), name, 0, is_alive, [], 0)


@pytest.mark.parametrize(
    ("rows", "worker", "kinds"),
    [
        ([row("w@h")], "w@h", []),
        ([row("w@h")], None, []),
        ([row("w@h", is_alive=False)], "w@h", ["lease"]),
        ([row("w@h", is_alive=False), row("w@h")], "w@h", []),
        ([row("w@h", is_alive=False), row("v@h")], None, ["lease"]),
        ([row("w@other")], None, ["not_consuming"]),
        ([row("w@h")], "v@h", ["not_consuming"]),
        ([], None, ["not_consuming"]),
    ],
)
def test_a_worker_is_ready_if_its_row_says_so(rows, worker, kinds):
    data = judge(rows, worker, "h")
    assert [reason["kind"] for reason in data["reasons"]] == kinds
    assert data["ok"] == (not kinds)


def test_its_exit_code_is_the_answer(url, database):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return run_celery("pgjobs", "ready", *words, env={**os.environ, "PYTHONPATH": str(ROOT)})

    database.nodes.beat_node(UUID(int=1), "celery@web", ["celery"], 3600.0)
    done = run("--url", url, "--worker", "celery@web")
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr
    done = run("--url", url, "--worker", "celery@mail", "--json")
    assert done.returncode == 1
    assert [each["kind"] for each in json.loads(done.stdout)["reasons"]] == ["not_consuming"]
    done = run("--url", "pgjobs://nobody@127.0.0.1:1/nothing")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
