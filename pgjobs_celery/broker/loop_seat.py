"""A transport's seat in the event loop of a worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..scopes.waker import Waker


class LoopSeat:
    """Its turn at each tick, its waker, its timers, and an alarm for a look that is due."""

    def __init__(self, loop: Any, waker: Waker, on_tick: Callable[[], None]) -> None:
        self._loop = loop
        self._waker = waker
        self._on_tick = on_tick
        self._timers: list[Any] = []
        self._alarm: Any = None
        self._alarm_at = float("inf")
        loop.on_tick.add(on_tick)
        loop.add_reader(waker, waker.drain)

    def repeat(self, interval: float, callback: Callable[[], None]) -> None:
        """Call it every so many seconds."""
        self._timers.append(self._loop.call_repeatedly(interval, callback))

    @property
    def has_calls(self) -> bool:
        """True if the loop was told to call something soon: it waits before it does."""
        return bool(self._loop._ready)

    def turn_soon(self) -> None:
        """Have a turn even if the loop has forgotten us."""
        self._loop.call_soon(self._on_tick)

    def ring_at(self, due_at: float, is_turned_soon: Callable[[], bool]) -> bool:
        """Have a turn at this time, by the monotonic clock; True if the loop must be woken for it.

        For it has asked its timers already how long it may sleep. It need not be where it
        ``is_turned_soon`` by something else, and asks them again.
        """
        seconds = due_at - time.monotonic()
        if seconds <= 0:
            return True
        if due_at >= self._alarm_at:
            return False
        self._silence()
        self._alarm_at = due_at
        # The timer alone makes the loop turn.
        self._alarm = self._loop.call_later(seconds, self._forget_alarm)
        return not is_turned_soon()

    def leave(self) -> None:
        """Have no turn any more; the waker stays open."""
        self._loop.on_tick.discard(self._on_tick)
        self._loop.remove(self._waker)
        for timer in self._timers:
            timer.cancel()
        self._silence()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._forget_alarm()

    def _forget_alarm(self) -> None:
        self._alarm, self._alarm_at = None, float("inf")
