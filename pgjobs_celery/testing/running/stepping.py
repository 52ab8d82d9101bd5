"""The steps of jobs that a test runs: where they are remembered, and when a wait is over.

A module of its own, for it loads the database driver, as every PgTask does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ...db.callers.base import callers
from ...db.database import Database
from ...db.rows.steps import Passed
from ...job.held_claim import HeldClaim
from ...job.progress import progress_of
from ...job.steps import Kind, Memory, Signal, Wait
from ...job.values import accepted_by, decode_value, encode_value, serializer_of
from ...tasks.steps import RowSteps, StepRun
from ..capturing.memories import Memories


class CapturedSteps:
    """The memory of a captured job, kept between its runs. Times go by the test's clock."""

    def __init__(
        self, memories: Memories, task_id: str, now: Callable[[], datetime], *, hurries: bool
    ) -> None:
        self._memories = memories
        self._task_id = task_id
        self._job = memories.of(task_id)
        self._now = now
        #: A sleep is over at once.
        self._hurries = hurries

    def load(self) -> dict[str, Memory]:
        """The memories of earlier runs."""
        return dict(self._job.memories)

    def record(self, name: str, memory: Memory) -> None:
        """Remember a step."""
        self._job.memories[name] = memory

    def restore(self, memories: dict[str, Memory]) -> None:
        """Remember this alone."""
        self._job.memories.clear()
        self._job.memories.update(memories)

    def pass_wait(self, wait: Wait) -> Passed:
        """Pass a wait that is over; otherwise the job waits."""
        memory = self._memories.take_signal(self._task_id, wait)
        now = self._now()
        pause = self._job.pause_at(wait, now)
        is_over = pause.until is not None and pause.until <= now
        if memory is None and (is_over or (self._hurries and wait.name is None)):
            memory = Memory(Kind.SLEEP if wait.name is None else Kind.TIMEOUT)
        if memory is None:
            left = None if pause.until is None else (pause.until - now).total_seconds()
            return Passed(None, left)
        self._job.pause = None
        self._job.memories[wait.step] = memory
        return Passed(memory, None)

    def known(self) -> dict[str, Memory]:
        """All that the job remembers by now."""
        return self.load()

    def waits_at(self) -> str | None:
        """The step at which the job waits."""
        return self._job.pause.wait.step if self._job.pause is not None else None


class JoinedSteps(RowSteps):
    """The memory of a job that runs within the test's own transaction."""

    def __init__(self, database: Database, task_id: str, held: HeldClaim) -> None:
        super().__init__(database, task_id, held)
        self._caller = database.find_point().caller
        self._known: dict[str, Memory] = {}
        self._waits_at: str | None = None

    def load(self) -> dict[str, Memory]:
        """As a worker's, and note it: it cannot be read any more when the job has ended."""
        with self._joining():
            self._known = super().load()
        return dict(self._known)

    def record(self, name: str, memory: Memory) -> None:
        """As a worker's, and note it."""
        with self._joining():
            super().record(name, memory)
        self._known[name] = memory

    def pass_wait(self, wait: Wait) -> Passed:
        """As a worker's, and note where the run waits."""
        with self._joining():
            passed = super().pass_wait(wait)
        self._waits_at = wait.step if passed.memory is None else None
        if passed.memory is not None:
            self._known[wait.step] = passed.memory
        return passed

    @contextmanager
    def _joining(self) -> Iterator[None]:
        """Take part in the test's transaction, in the thread that works for a coroutine as well."""
        scope = callers.enter(self._caller) if callers.find() is None else None
        try:
            with self._database.joining():
                yield
        finally:
            if scope is not None:
                callers.leave(scope)

    def known(self) -> dict[str, Memory]:
        """All that the run knows the job to remember."""
        return self._known

    def waits_at(self) -> str | None:
        """The step at which the job waits."""
        return self._waits_at

    def require_no_transaction(self) -> None:
        """Nothing: the test holds the transaction, and no worker waits for it."""


def remember(request: Any, app: Any, memory: Any) -> None:
    """Have a run find its steps there."""
    progress_of(request).steps = StepRun(memory, app, str(request.id))


def prepare(
    app: Any, memories: Memories, task_id: str, steps: dict[str, Any], signals: dict[str, Any]
) -> None:
    """Have a job remember steps that returned these values, and send it these signals."""
    serializer = serializer_of(app.conf)
    for name, value in steps.items():
        memories.of(task_id).memories[name] = Memory(Kind.STEP, *encode_value(value, serializer))
    memories.send(
        [
            Signal(task_id, None, name, *encode_value(payload, serializer))
            for name, payload in signals.items()
        ]
    )


def decode_steps(app: Any, memories: dict[str, Memory]) -> dict[str, Any]:
    """The values that steps have returned, by their names; None for a sleep."""
    accept = accepted_by(app.conf)
    return {
        name: None if each.value is None else decode_value(each.value, each.value_type, accept)
        for name, each in memories.items()
    }
