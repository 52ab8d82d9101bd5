"""Decide which ticks of a schedule are published; nothing here touches the database."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

#: A tick is missed when this much time has passed since, in seconds: within it a beat that is late,
#: or another one in place of one that was killed, publishes all of them.
GRACE = 60.0
#: How many ticks are gone through one by one, and how many are published at once. Beyond that it is
#: not every one that counts: those of an entry of seconds after a month.
MOST = 10_000

#: How missed ticks are treated: those for which no beat was running.
SKIP, ONCE, ALL = "skip", "once", "all"
MISSED = (SKIP, ONCE, ALL)


class Due(NamedTuple):
    """The ticks of an entry to publish now, oldest first, and the tick after them."""

    ticks: list[datetime]
    next: datetime


def find_due(
    due_at: datetime,
    now: datetime,
    next_tick: Callable[[datetime], datetime],
    missed: str = ONCE,
    limit: int = 100,
    *,
    grace: float = GRACE,
    deadline: float | None = None,
) -> Due:
    """The ticks to publish of an entry whose next tick is ``due_at``.

    Ticks of the last ``grace`` seconds are all published. Of those before, which were missed,
    ``"all"`` publishes the last ``limit``, ``"once"`` the last one, if none follows it, and
    ``"skip"`` none. A tick more than ``deadline`` seconds late is never published.
    """
    in_time_from = now - timedelta(seconds=grace)
    late: deque[datetime] = deque(maxlen=limit if missed == ALL else 1)
    in_time: deque[datetime] = deque(maxlen=MOST)
    tick = first = due_at
    steps = 0
    while tick <= now:
        (late if tick < in_time_from else in_time).append(tick)
        steps += 1
        if steps == MOST:
            tick = _skip(tick, (tick - first) / (steps - 1), in_time_from, now, limit)
            steps = 0
        tick = next_tick(tick)
        if not steps:  # what is counted next begins with it
            first = tick
    ticks = [*late, *in_time]
    if missed == SKIP or (missed == ONCE and in_time):
        ticks = list(in_time)
    if deadline is not None:
        ticks = [each for each in ticks if now - each <= timedelta(seconds=deadline)]
    return Due(ticks, tick)


def _skip(
    tick: datetime, pace: timedelta, in_time_from: datetime, now: datetime, limit: int
) -> datetime:
    """Where to go on after so many: where what is published begins, going by the pace so far.

    A whole number of steps further, so that an interval stays in step.
    """
    if tick < in_time_from:
        goal = in_time_from - pace * (min(limit, MOST) + 1)
    else:
        goal = now - pace * (MOST + 1)
    return tick + pace * max(0, (goal - tick) // pace)
