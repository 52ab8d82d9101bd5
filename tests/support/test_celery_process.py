"""A forked ``celery`` is what one is that was started anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import celery_process
from .celery_process import ROOT, CeleryProcess
from .waiting import wait_for

APP = """
import atexit, json, os, socket, sys
from celery import Celery, concurrency
app = Celery("proj")
os.write(int(os.environ["PGJOBS_TO"]), json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "path": sys.path, "session": os.getsid(0),
    "environment": {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"},
    "files": sorted(set(os.listdir("/proc/self/fd"))), "pid": os.getpid(),
    "patched": socket.socket.__module__, "custom": concurrency.ALIASES["custom"],
}).encode())
os.close(int(os.environ["PGJOBS_TO"]))
kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(16)]
atexit.register(lambda: print("still open", all(os.fstat(each) for each in kept)))
"""


def start(folder: Path, descriptor: int, *arguments: str, **options: Any) -> CeleryProcess:
    (folder / "proj.py").write_text(APP)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PGJOBS_TO": str(descriptor),
        "CELERY_CUSTOM_WORKER_POOL": "pgjobs_celery.worker.aio:TaskPool",
    }
    return CeleryProcess(
        ["-A", "proj", *(arguments or ("report",))],
        cwd=folder, env=environment, pass_fds=[descriptor],
        stdout=subprocess.PIPE, start_new_session=True, **options,
    )  # fmt: skip


def about(folder: Path, *arguments: str) -> tuple[CeleryProcess, dict[str, Any]]:
    """A process that has ended, and what it told of itself."""
    reading, writing = os.pipe()
    process = start(folder, writing, *arguments)
    os.close(writing)
    with open(reading) as told:
        found = json.loads(told.read())
    output, _ = process.communicate(timeout=60)
    assert (b"Usage: " if arguments else b"software -> celery") in output
    assert b"still open True" in output
    return process, found


@pytest.mark.parametrize("pool", ["", *celery_process.PATCHED])
def test_a_fork_has_all_that_a_process_has_that_is_started_anew(tmp_path, monkeypatch, pool):
    if pool:
        pytest.importorskip(pool)
    arguments = ("worker", "--pool", pool, "--help") if pool else ()
    forked, found = about(tmp_path, *arguments)
    monkeypatch.setattr(celery_process, "LATE", ())
    anew, expected = about(tmp_path, *arguments)
    assert (forked.is_forked, anew.is_forked) == (True, False)
    assert (forked.pid, anew.pid) == (found.pop("pid"), expected.pop("pid"))
    assert (forked.pid, anew.pid) == (found.pop("session"), expected.pop("session"))
    assert (forked.returncode, anew.returncode) == (0, 0)
    # The descriptor of the pipe is another one each time.
    found["files"].remove(found["environment"].pop("PGJOBS_TO"))
    expected["files"].remove(expected["environment"].pop("PGJOBS_TO"))
    assert found == expected


def test_its_end_is_that_of_the_process(tmp_path):
    process = CeleryProcess(["nonsense"], stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate(timeout=60)
    assert "No such command 'nonsense'" in errors
    assert process.returncode == 2

    reading, writing = os.pipe()
    process = start(tmp_path, writing)  # that nobody reads from its pipe does not stop it
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("more", [{"PYTHONWARNINGS": "error"}, {"LD_PRELOAD": ""}, {"TZ": "UTC"}])
def test_it_is_started_anew_where_its_environment_matters_to_imports(more):
    process = CeleryProcess(["--version"], env={**os.environ, **more}, stdout=subprocess.PIPE)
    process.communicate(timeout=60)
    assert not process.is_forked


def test_it_goes_with_the_process_that_has_started_it():
    program = (
        "from tests.support.celery_process import CeleryProcess\n"
        "process = CeleryProcess(['-b', 'memory://', 'worker', '-P', 'solo'],\n"
        "    stdout=-3, stderr=-3, start_new_session=True)\n"
        "print(process.pid, flush=True)\n"
        "input()\n"
    )
    asker = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert asker.stdin
    assert asker.stdout
    pid = int(asker.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    asker.kill()
    asker.communicate()
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
