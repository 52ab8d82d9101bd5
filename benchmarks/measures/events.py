"""What it costs a worker to tell of its tasks, with somebody who listens and with nobody."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.errors import WrongOutcome
from benchmarks.measures.base import Run
from benchmarks.measures.drain import Drain
from benchmarks.processes import ROOT, kill_group
from benchmarks.workers import Pool

#: How long the last events may take, in seconds, once all tasks have run.
PATIENCE = 30


class Events(Drain):
    """A drain with ``--task-events``, and a process that takes every event, or none."""

    name = "events"
    is_core = False
    flags = ("--task-events",)

    def __init__(self, pool: Pool, is_heard: bool) -> None:
        super().__init__(pool, results=False, beside=frozenset())
        self.title = f"Drain: {pool}, with events {'to one listener' if is_heard else 'to nobody'}"
        self.is_heard = is_heard

    def run(self, run: Run) -> dict[str, float]:
        if not self.is_heard:
            return super().run(run)
        with listening(run) as listener:
            values = super().run(run)
            output, _ = listener.communicate(timeout=PATIENCE)
        seen = json.loads(output.splitlines()[-1])
        for kind in ("received", "started", "succeeded"):
            if (found := seen.get(f"task-{kind}", 0)) != run.scale.tasks:
                raise WrongOutcome(f"{found} of {run.scale.tasks} events that tasks have {kind}")
        return values


@contextlib.contextmanager
def listening(run: Run) -> Iterator["subprocess.Popen[str]"]:
    """A listener that is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.listener", str(run.scale.tasks)],
        cwd=ROOT,
        env={**os.environ, **run.environment(results=False)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise WrongOutcome("the listener died")
        yield process
    finally:
        kill_group(process)
