"""When cron is due, by looking at every minute there is: no croniter, and nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)

#: Whether a wall clock's time, without a zone, is one of those that are meant.
Matches = Callable[[datetime], bool]


def ticks_of_intervals(
    matches: Matches, zone: ZoneInfo, after: datetime, until: datetime
) -> list[datetime]:
    """Every minute of real time in which the clocks show a time that is meant."""
    found = []
    moment = _whole(after)
    while moment <= until:
        if moment > after and matches(moment.astimezone(zone).replace(tzinfo=None)):
            found.append(moment)
        moment += MINUTE
    return found


def ticks_of_times(
    matches: Matches, zone: ZoneInfo, after: datetime, until: datetime
) -> list[datetime]:
    """Every time that is meant, once: the first of two; the end of the gap for one in a gap."""
    found = set()
    wall = _whole(after.astimezone(zone)).replace(tzinfo=None) - timedelta(days=2)
    last = until.astimezone(zone).replace(tzinfo=None) + timedelta(days=2)
    while wall <= last:
        if matches(wall):
            found.add(_resolve(wall, zone))
        wall += MINUTE
    return sorted(moment for moment in found if after < moment <= until)


def _resolve(wall: datetime, zone: ZoneInfo) -> datetime:
    moment = wall.replace(tzinfo=zone).astimezone(timezone.utc)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    # PEP 495: a time in a gap has the offset of before the gap, and with fold=1 that of after it.
    offset = wall.replace(tzinfo=zone, fold=1).utcoffset()
    moment = _whole(wall.replace(tzinfo=zone, fold=1).astimezone(timezone.utc))
    while moment.astimezone(zone).utcoffset() != offset:
        moment += MINUTE
    return moment


def _whole(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
