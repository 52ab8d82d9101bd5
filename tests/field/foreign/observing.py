"""What the small applications share: where to run, a worker, and a report of what was seen.

Runs in the products' environments, without the rest of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BROKER = os.environ["FIELD_BROKER"]
RESULTS = os.environ["FIELD_RESULTS"]
DATABASE = os.environ["FIELD_DATABASE"]
REDIS = os.environ["FIELD_REDIS"]
FOLDER = Path(os.environ["FIELD_FOLDER"])


def observe(scenario: Callable[[], dict[str, Any]]) -> None:
    """Run the scenario and write down what it saw."""
    seen = scenario()
    Path(os.environ["FIELD_REPORT"]).write_text(json.dumps(seen, default=str, indent=1))


@contextmanager
def running_worker(
    app: str, *arguments: str, command: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the application in the module ``app``, ready; stopped warmly at the end.

    ``command``: what stands for ``celery -A app`` where the product has its own.
    """
    ready = FOLDER / f"ready-{os.getpid()}-{time.monotonic_ns()}"
    line = [*(command or (sys.executable, "-m", "celery", "-A", app)), "worker", "-l", "INFO"]
    line += ["--include", "ready", *arguments]
    # A product's own command does not look for modules where it was called.
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "FIELD_READY": str(ready), "PYTHONPATH": path}
    process = subprocess.Popen(line, env=env)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, 300)
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended with {process.returncode}")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def find_port() -> int:
    """A port on which nothing listens yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What the condition returns once it is true, or at the end of the time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


def django_database() -> dict[str, Any]:
    """Django's settings for the database of this run."""
    parts = urlsplit(DATABASE)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "HOST": parts.hostname,
        "PORT": parts.port,
    }
