"""A monotonic clock that goes on while a test has stopped the program's.

freezegun replaces ``time.monotonic`` in every module: a wait by it never ends, and a time noted
while it stood still is decades off afterwards. It leaves ``clock_gettime`` alone, as time-machine
does for this clock.
"""

from __future__ import annotations

import time

if hasattr(time, "clock_gettime"):

    def monotonic() -> float:
        """Seconds, as ``time.monotonic()``."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)
else:  # Windows

    def monotonic() -> float:
        """Seconds, as ``time.monotonic()``."""
        return time.monotonic()
