"""Run published jobs at once, in the thread that publishes them."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Any

from ...errors import NeverEnds
from ...job.states import State
from ..capturing.capture import Enqueued, Inbox
from .clock import InboxClock
from .draining import run_captured

#: How often one job may run here: more than most tasks have attempts, and soon reached by one that
#: snoozes or retries for ever.
MOST_RUNS = 100


class InlineRunner:
    """Runs the jobs of an inbox as they come in.

    Jobs that a task publishes run in their order when the task has ended, as in an idle worker: so
    a chain may have any length, and a retry does not run within a run. Times are not waited for.
    """

    def __init__(self, app: Any, inbox: Inbox, *, propagate: bool) -> None:
        self._app = app
        self._inbox = inbox
        self._propagate = propagate
        self._clock = InboxClock()
        self._local = threading.local()

    def on_job(self, job: Enqueued) -> None:
        """Run a job that was published here, now or when the task that published it has ended."""
        if job.is_again or job.task not in self._app.tasks:
            return  # it runs, and is handled at its end; or is another program's
        self._put([job])

    def on_signals(self) -> None:
        """Signals were sent: run the jobs that have waited for them."""
        memories = self._inbox.memories
        self._put([job for job in self._inbox.waiting() if memories.has_signal(job.task_id)])

    def _put(self, jobs: list[Enqueued]) -> None:
        if self._jobs is not None:
            self._jobs.extend(jobs)
            return
        self._local.jobs = deque(jobs)
        self._local.runs = Counter()
        try:
            self.run_waiting()
        finally:
            self._local.jobs = None

    def run_waiting(self) -> None:
        """Run the jobs published here, without waiting for the end of the running task."""
        while self._jobs:
            self._run(self._jobs.popleft())

    @property
    def _jobs(self) -> deque[Enqueued] | None:
        jobs: deque[Enqueued] | None = getattr(self._local, "jobs", None)
        return jobs

    def _run(self, job: Enqueued) -> None:
        runs: Counter[str] = self._local.runs
        runs[job.task_id] += 1
        if runs[job.task_id] > MOST_RUNS:
            raise NeverEnds(
                f"task {job.task}[{job.task_id}] has run {MOST_RUNS} times and goes on: it snoozes "
                "or retries for ever where no time passes; test it with perform_job()"
            )
        performed = run_captured(
            self._app, self._inbox, self._clock, job, left_as=State.DISCARDED, hurries=True
        )
        if performed is None:
            return
        if performed.outcome == "suspended":
            return  # until its signal comes
        after = self._inbox.get(job.task_id)
        if after is not None and after.number == job.number and after.is_waiting:
            jobs = self._jobs
            assert jobs is not None
            jobs.append(after)
        elif self._propagate and performed.error is not None:
            raise performed.error
