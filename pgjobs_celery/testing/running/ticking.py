"""Find the entries of beat that are due in a span of time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ...beat.next_tick import next_tick
from ...beat.spec import to_schedule
from ...errors import InvalidOption

#: How many ticks one entry may have in a span: more is a mistake in the span, or the schedule.
MOST_TICKS = 100_000


class Tick(NamedTuple):
    """An entry of ``beat_schedule``, and a time at which it is due, in UTC."""

    name: str
    at: datetime


def due_entries(app: Any, start: datetime, end: datetime | timedelta | float) -> list[Tick]:
    """The ticks of ``app.conf.beat_schedule`` after ``start`` and until ``end``, in order.

    ``end`` is a time, or the length of the span, in seconds or as a timedelta. A time without a
    zone is in the app's. Raises InvalidOption if the span ends before it begins.

    >>> due_entries(app, datetime(2026, 1, 1), timedelta(days=1))
    [Tick(name='nightly', at=datetime.datetime(2026, 1, 1, 2, 0, tzinfo=datetime.timezone.utc))]
    """
    if not isinstance(end, (datetime, timedelta)):
        end = timedelta(seconds=end)
    start = start if start.tzinfo else start.replace(tzinfo=app.timezone)
    if isinstance(end, timedelta):
        end = start + end
    end = end if end.tzinfo else end.replace(tzinfo=app.timezone)
    if end < start:
        raise InvalidOption(f"the span ends ({end}) before it begins ({start})")
    # Then entries of on_after_configure and on_after_finalize are included.
    app.finalize(auto=True)
    ticks: list[Tick] = []
    for name, entry in (app.conf.beat_schedule or {}).items():
        ticks += _ticks(app, str(name), entry, start, end)
    return sorted(ticks, key=lambda tick: (tick.at, tick.name))


def _ticks(
    app: Any, name: str, entry: Mapping[str, Any], start: datetime, end: datetime
) -> list[Tick]:
    given = to_schedule(entry["schedule"], relative=bool(entry.get("relative")), app=app)
    found: list[Tick] = []
    at = next_tick(given, start)
    while at <= end:
        if len(found) >= MOST_TICKS:
            raise InvalidOption(
                f"entry {name!r} is due more than {MOST_TICKS:,} times in this span"
            )
        found.append(Tick(name, at))
        at = next_tick(given, at)
    return found
