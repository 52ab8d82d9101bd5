"""How much of the time that passed is the machine's doing, and not that of what is tested."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


class Stopwatch:
    """Measures how long this process was at something, from its making on."""

    def __init__(self) -> None:
        # In this order, and the other one at the end: no wait while the threads are looked at
        # may be part of the time without being known as a wait.
        self._waits = _waits()
        self._begun = time.monotonic()

    def elapsed(self) -> float:
        """Seconds that have passed, whoever took them."""
        return time.monotonic() - self._begun

    def own(self) -> float:
        """Seconds that have passed, less those that threads of ours waited for a processor."""
        elapsed = self.elapsed()
        waits = _waits()
        # By thread: with one that has ended meanwhile, all that it ever waited is gone.
        return elapsed - sum(wait - self._waits.get(name, 0.0) for name, wait in waits.items())


def _waits() -> dict[str, float]:
    """For how many seconds each thread was ready to run and had no processor.

    Empty where the system does not tell.
    """
    waits: dict[str, float] = {}
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                waits[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return waits
