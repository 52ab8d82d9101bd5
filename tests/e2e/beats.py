"""Real ``celery beat`` processes, any number of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..support.celery_process import CeleryProcess
from .conftest import ROOT, Worker

#: As ``-S pgjobs``, also where the installed release does not know that name yet.
SCHEDULER = "pgjobs_celery.beat:PgScheduler"

StartBeat = Callable[..., Worker]


@contextmanager
def running_beats(url: str, folder: Path) -> Iterator[StartBeat]:
    """A factory of beats of the workers' app; killed at the end, and what they said is shown."""
    beats: list[Worker] = []

    def start(
        schedule: Mapping[str, Any],
        *args: str,
        conf: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        broker: str | None = None,
    ) -> Worker:
        name = f"beat{len(beats) + 1}-{uuid4().hex[:6]}"
        log = folder / f"{name}.log"
        arguments = [
            *("-A", "tests.e2e.tasks", "beat"),
            *("--scheduler", SCHEDULER, "--pidfile", "", "--loglevel", "INFO", *args),
        ]
        with log.open("wb") as output:
            process = CeleryProcess(
                arguments,
                cwd=ROOT,
                env={
                    **os.environ,
                    "PGJOBS_TEST_URL": broker or url,
                    "PGJOBS_TEST_CONF": json.dumps({"beat_schedule": schedule, **(conf or {})}),
                    "PYTHONUNBUFFERED": "1",
                    **(env or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        beats.append(Worker(name, process, log))
        return beats[-1]

    try:
        yield start
    finally:
        for each in beats:
            each.stop(9)
            print(f"---- {each.name}, exit code {each.process.returncode}\n{each.log}")
