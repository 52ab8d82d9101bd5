"""Decide which ticks of a schedule are published; nothing here touches the database."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

#: A tick is missed when this much time has passed since, in seconds: within it a beat that is late,
#: or another one in place of one that was killed, publishes all of them.
GRACE = 60.0
#: How many ticks are gone through one by one. What lies further back than so many is not published.
MOST = 10_000

#: What becomes of ticks that no beat was there for.
SKIP, ONCE, ALL = "skip", "once", "all"
MISSED = (SKIP, ONCE, ALL)


class Due(NamedTuple):
    """What is to be published of an entry now, oldest first, and the tick that comes then."""

    ticks: list[datetime]
    next: datetime


def find_due(
    due_at: datetime,
    now: datetime,
    next_tick: Callable[[datetime], datetime],
    missed: str = ONCE,
    limit: int = 100,
) -> Due:
    """What to publish of an entry whose next tick is ``due_at``.

    Ticks of the last :data:`GRACE` seconds are all published. Of those before, which were missed,
    ``"all"`` publishes the last ``limit``, ``"once"`` the last one, if none follows it, and
    ``"skip"`` none.
    """
    in_time_from = now - timedelta(seconds=GRACE)
    late: deque[datetime] = deque(maxlen=limit if missed == ALL else 1)
    in_time: list[datetime] = []
    tick = due_at
    steps = 0
    while tick <= now:
        (late if tick < in_time_from else in_time).append(tick)
        steps += 1
        if steps >= MOST and tick < in_time_from:
            # Of a schedule of seconds after a month: on from where nothing is missed any more.
            tick = next_tick(in_time_from)
            steps = 0
        else:
            tick = next_tick(tick)
    if missed == ALL:
        return Due([*late, *in_time], tick)
    if missed == ONCE and not in_time:
        return Due(list(late), tick)
    return Due(in_time, tick)
