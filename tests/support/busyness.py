"""How much of the time that passed is the machine's doing, and not that of what is tested."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def kept_waiting() -> float:
    """Seconds that this process's threads were ready to run and had no processor, all together.

    0.0 where the system does not say so.
    """
    nanoseconds = 0
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended
                nanoseconds += int((thread / "schedstat").read_text().split()[1])
    return nanoseconds / 1e9
