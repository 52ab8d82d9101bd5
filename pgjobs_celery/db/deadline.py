"""Have a thread wait for the database no longer than its caller has time: whatever the server does.

``get(timeout=3)`` must not take longer because a table is locked, or the server is stopped. A limit
that the server keeps itself (statement_timeout) is not kept by one that is stopped.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg

from ..scopes.steady import monotonic

T = TypeVar("T")

_ends = threading.local()


class OutOfTime(psycopg.OperationalError):
    """The time that the caller had is over, and the server has not answered."""


@contextlib.contextmanager
def answered_by(end: float) -> Iterator[None]:
    """Raise OutOfTime where this thread would wait beyond ``end``, by the monotonic clock."""
    before = getattr(_ends, "end", float("inf"))
    _ends.end = min(before, end)
    try:
        yield
    finally:
        _ends.end = before


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Within :func:`answered_by`: for what is not done for the caller who has the limit."""
    before = getattr(_ends, "end", float("inf"))
    _ends.end = float("inf")
    try:
        yield
    finally:
        _ends.end = before


def time_left() -> float | None:
    """How long this thread may still wait, in seconds; None for as long as it takes."""
    end: float = getattr(_ends, "end", float("inf"))
    return None if end == float("inf") else max(0.0, end - monotonic())


def in_time(work: Callable[[], T], too_late: Callable[[T], object]) -> T:
    """``work()``, in a thread of its own where this one has not for ever; raises OutOfTime.

    For what cannot be told to stop, as to connect. ``too_late`` gets what it comes to all the same.
    """
    seconds = time_left()
    if seconds is None:
        return work()
    results: list[T] = []
    errors: list[BaseException] = []
    lock, is_given_up = threading.Lock(), False

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            errors.append(error)
            return
        with lock:
            if not is_given_up:
                results.append(result)
                return
        too_late(result)

    thread = threading.Thread(target=run, name="pgjobs-connecting", daemon=True)
    thread.start()
    thread.join(seconds)
    with lock:
        is_given_up = not results
    if errors:
        raise errors[0]
    if is_given_up:
        raise OutOfTime("no connection to the server in the time that there was")
    return results[0]
