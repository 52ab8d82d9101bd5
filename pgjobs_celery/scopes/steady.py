"""A monotonic clock that goes on while a test has stopped the program's.

freezegun replaces ``time.monotonic`` wherever a module has it: what waits by that waits for ever,
and what has noted a time while it stood still is decades off afterwards. ``clock_gettime`` it
leaves alone, as time-machine does for this clock.
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
