"""``cron()``: a schedule for beat.

app.conf.beat_schedule = {
    "nightly": {"task": "proj.report", "schedule": cron("0 2 * * *", tz="Europe/Berlin")},
}
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from celery.schedules import BaseSchedule, schedstate

from ..errors import InvalidOption
from .cron_times import next_tick as next_cron_tick
from .cron_times import parse


class cron(BaseSchedule):  # noqa: N801
    """A cron expression of five fields, or a nickname (``@daily``), in a time zone.

    ``tz`` is an IANA name; the app's ``timezone`` where it is not given. In a change of the clocks
    it does what cron does (:mod:`pgjobs_celery.beat.cron_times`), and if day of month and day of
    week are both given a match of either is enough; Celery's ``crontab`` asks for both, and skips
    the repeated hour.
    Raises InvalidOption for anything that is not an expression or time zone.
    """

    def __init__(
        self, expression: str, tz: str | None = None, nowfun: Any = None, app: Any = None
    ) -> None:
        super().__init__(nowfun=nowfun, app=app)
        parse(expression)
        self.expression = expression
        self.tz_name = tz
        if tz is not None:
            self.__dict__["tz"] = _zone(tz)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """From now until it is due next after ``last_run_at``; below 0 if that is past."""
        due: datetime = next_cron_tick(self.expression, self.tz, _aware(last_run_at, self.tz))
        return due - _aware(self.now(), self.tz)

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether it is due, and in how many seconds to ask again."""
        remaining = self.remaining_estimate(last_run_at).total_seconds()
        if remaining > 0:
            return schedstate(False, remaining)
        return schedstate(True, max(0.0, self.remaining_estimate(self.now()).total_seconds()))

    def __repr__(self) -> str:
        return f"<cron: {self.expression}{f' ({self.tz_name})' if self.tz_name else ''}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, cron):
            return (self.expression, self.tz_name) == (other.expression, other.tz_name)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.expression, self.tz_name))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.expression, self.tz_name, self.nowfun)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidOption(
            f"{name!r} is not a time zone that this machine knows: write it as in Europe/Berlin "
            "(where it has none at all, pip install tzdata)"
        ) from None


def _aware(moment: datetime, zone: tzinfo) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
