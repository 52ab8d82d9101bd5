"""The time that beats use: the server's or, for a rehearsal, one derived from it.

A day of schedules, a change of the clocks in it, passes in a minute where each second counts for
1,440. All beats need the same settings, and then have the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..config import read_settings
from ..errors import InvalidOption


@dataclass(frozen=True)
class Clock:
    """A clock derived from the server's."""

    #: The time that it shows ...
    origin: datetime | None = None
    #: ... when the server's shows this time; None for the same.
    anchor: datetime | None = None
    #: How many seconds pass in one of the server's.
    speed: float = 1.0

    def at(self, server: datetime) -> datetime:
        """The time, given the server's."""
        if self.origin is None or self.anchor is None:
            return server
        return self.origin + (server - self.anchor) * self.speed

    def seconds(self, passing: timedelta) -> float:
        """How many real seconds a span of this clock takes."""
        return passing.total_seconds() / self.speed


def read_clock(conf: Mapping[str, Any]) -> Clock:
    """The clock of the ``pgjobs_beat_clock_*`` settings. Raises InvalidOption."""
    settings = read_settings(conf)
    origin = _moment("pgjobs_beat_clock_origin", settings.beat_clock_origin)
    anchor = _moment("pgjobs_beat_clock_anchor", settings.beat_clock_anchor)
    if not 0 < settings.beat_clock_speed <= 1_000_000:
        raise InvalidOption(
            "pgjobs_beat_clock_speed must be above 0, and 1,000,000 at most, not "
            f"{settings.beat_clock_speed}"
        )
    if origin is None and (anchor is not None or settings.beat_clock_speed != 1.0):
        raise InvalidOption(
            "pgjobs_beat_clock_anchor and pgjobs_beat_clock_speed belong to "
            "pgjobs_beat_clock_origin, which is not set"
        )
    if origin is not None and anchor is None:
        raise InvalidOption(
            "pgjobs_beat_clock_origin needs pgjobs_beat_clock_anchor: the moment, the same for all "
            "beats, at which they begin with it"
        )
    return Clock(origin, anchor, settings.beat_clock_speed)


def _moment(name: str, value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = ""
    if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is None):
        raise InvalidOption(
            f"{name} must be a time with its offset, as '2027-03-28T00:00:00+01:00', not {value!r}"
        )
    return moment
