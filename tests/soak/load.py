"""Publish jobs of every kind, cancel some, and know how each must end."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from celery import chain, chord

from pgjobs_celery import jobs

from . import tasks

#: The state in which a job of each task ends, where no worker is told to leave.
ENDS = {
    "sleeps": "completed", "sleeps_late": "completed", "fails": "discarded",
    "fails_twice": "completed", "retries": "completed", "snoozes": "completed",
    "exceeds_soft": "discarded", "catches_soft": "completed", "exceeds_hard": "discarded",
    "gathers": "completed", "times_out": "completed", "forgets_child": "completed",
    "publishes": "completed", "blocks_for_a_moment": "completed", "in_a_thread": "completed",
    "loop_in_a_thread": "completed",
}  # fmt: skip

#: Those that run until they are cancelled, in any way to do it.
ENDLESS = ("is_cancelled", "swallows_cancellation")


class Load:
    """Publishes, a number of jobs at a time."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.published: Counter[str] = Counter()
        self._timers: list[threading.Timer] = []

    def publish(self, number: int) -> None:
        """Publish so many jobs, or a few more."""
        for _ in range(number):
            name = self._dice.choice([*ENDS, *ENDLESS, "chord", "chain"])
            self.published[name] += 1
            if name == "chord":
                chord([tasks.number.s(n) for n in range(4)])(tasks.total.s())
            elif name == "chain":
                chain(tasks.number.si(1), tasks.number.si(2)).apply_async()
            else:
                result = getattr(tasks, name).apply_async()
                if name in ENDLESS:
                    self._later(self._dice.choice([_cancel, _cancel_for_good, _revoke]), result.id)

    def wait(self) -> None:
        """Until all has been cancelled that will be."""
        while self._timers:
            self._timers.pop().join()

    def _later(self, act: Callable[[str], Any], task_id: str) -> None:
        timer = threading.Timer(self._dice.uniform(0.0, 1.0), act, [task_id])
        timer.start()
        self._timers.append(timer)


def _cancel(task_id: str) -> None:
    jobs(tasks.app).filter(id=task_id).cancel("by the soak")


def _cancel_for_good(task_id: str) -> None:
    jobs(tasks.app).filter(id=task_id).cancel("by the soak", terminate=True)


def _revoke(task_id: str) -> None:
    tasks.app.control.revoke(task_id, terminate=True)
