"""Wait for a place on a server that has no connection left."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TypeVar

import psycopg

from ..printable import guarded
from ..scopes.steady import monotonic
from .deadline import OutOfTime, time_left
from .dsn import describe
from .failures import is_full

logger = guarded(logging.getLogger(__name__))

T = TypeVar("T")

#: Seconds between two tries, at least and at most.
FIRST, LAST = 0.05, 0.5
#: How often a process logs that it waits, in seconds.
WARN_EVERY = 60.0

_warned_at = -WARN_EVERY


def wait_for_place(
    connect: Callable[[], T],
    conninfo: str,
    timeout: float,
    meanwhile: Callable[[float], T | None],
) -> T:
    """``connect()``, again and again for ``timeout`` seconds while the server is full.

    ``meanwhile`` waits for so many seconds between two tries; what it returns is taken instead.
    Raises what ``connect()`` raised last, or OutOfTime where this thread has no time left.
    """
    deadline, pause = monotonic() + timeout, FIRST
    while True:
        try:
            return connect()
        except psycopg.OperationalError as error:
            mine = time_left()
            left = min(deadline - monotonic(), timeout if mine is None else mine)
            if not is_full(error):
                raise
            if left <= 0:
                if mine == 0:
                    raise OutOfTime("the server has had no place in the time there was") from error
                raise
            _warn(conninfo, timeout)
        # Not all at once: those who wait began together.
        instead = meanwhile(min(left, pause * random.uniform(0.5, 1.0)))
        if instead is not None:
            return instead
        pause = min(LAST, pause * 2)


def _warn(conninfo: str, timeout: float) -> None:
    global _warned_at
    now = monotonic()
    if now - _warned_at < WARN_EVERY:
        return
    _warned_at = now
    logger.warning(
        "PostgreSQL at %s has no connection left: waiting for one, %g s each time (raise "
        "max_connections, put a pooler in between, or have fewer processes)",
        describe(conninfo), timeout,
    )  # fmt: skip
