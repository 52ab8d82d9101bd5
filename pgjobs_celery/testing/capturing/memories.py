"""The memories of captured jobs: what their steps have returned, and signals that were sent."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from ...job.steps import Kind, Memory, Signal, Wait


class Pause(NamedTuple):
    """A wait that a job has come to: since when, and until when at most."""

    wait: Wait
    until: datetime | None


class JobMemory:
    """The memory of one job from run to run."""

    def __init__(self) -> None:
        self.memories: dict[str, Memory] = {}
        #: The sleep or signal that it waits for; None while it runs, or has ended.
        self.pause: Pause | None = None

    def pause_at(self, wait: Wait, now: datetime) -> Pause:
        """The wait; one that has begun before stays as it is."""
        if self.pause is None or self.pause.wait.step != wait.step:
            until = wait.until
            if wait.delay is not None:
                until = now + timedelta(seconds=wait.delay)
            self.pause = Pause(wait, until)
        return self.pause


class Memories:
    """The memories of an inbox's jobs, and the signals that no job has taken. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._jobs: dict[str, JobMemory] = {}
        self._signals: list[Signal] = []
        self._sent: set[tuple[str | None, str | None, str]] = set()

    def of(self, task_id: str) -> JobMemory:
        """The memory of a job."""
        with self._lock:
            return self._jobs.setdefault(task_id, JobMemory())

    def waits_for(self, task_id: str) -> Wait | None:
        """The sleep or signal that a job waits for; None if it does not wait."""
        pause = self.of(task_id).pause
        return pause.wait if pause is not None else None

    def send(self, signals: Sequence[Signal], *, is_first: bool = False) -> int:
        """Keep signals until their jobs take them; how many. As the table does."""
        count = 0
        with self._lock:
            for each in signals:
                address = each.task_id, each.key, each.name
                if is_first and address in self._sent:
                    continue
                self._sent.add(address)
                self._signals.append(each)
                count += 1
        return count

    def has_signal(self, task_id: str) -> bool:
        """True if a signal is there that the job waits for."""
        wait = self.waits_for(task_id)
        with self._lock:
            return wait is not None and self._find(task_id, wait) is not None

    def take_signal(self, task_id: str, wait: Wait) -> Memory | None:
        """The first signal that such a wait of the job takes, as its step; None without one."""
        with self._lock:
            found = self._find(task_id, wait)
            if found is None:
                return None
            self._signals.remove(found)
        return Memory(Kind.SIGNAL, found.payload, found.payload_type)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._jobs.clear()
            self._signals.clear()
            self._sent.clear()

    def _find(self, task_id: str, wait: Wait) -> Signal | None:
        if wait.name is None:
            return None
        for each in self._signals:
            is_to_it = each.task_id == task_id or (each.key is not None and each.key == wait.key)
            if each.name == wait.name and is_to_it:
                return each
        return None
