"""``cron()``, a schedule for beat; and any schedule as a row has it, and as it is computed.

app.conf.beat_schedule = {
    "nightly": {"task": "proj.report", "schedule": cron("0 2 * * *", tz="Europe/Berlin")},
}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from celery.schedules import BaseSchedule, crontab, maybe_schedule, schedstate, schedule, solar

from ..errors import InvalidOption
from .cron_times import next_tick as next_cron_tick
from .cron_times import parse

#: What a schedule that is not ours to describe is called in its row.
OTHER = "other"
#: Celery's own classes, of which we know that remaining_estimate() tells all.
CELERYS = (schedule, crontab, solar)
#: How often a schedule of another class is asked on the way to one tick.
MOST_ANSWERS = 1000
#: What is no further away is the event itself: it is computed anew, and never quite the same.
SAME_EVENT = timedelta(seconds=1)


class cron(BaseSchedule):  # type: ignore[misc]  # noqa: N801
    """A cron expression of five fields, or a nickname (``@daily``), in a time zone.

    ``tz`` is an IANA name; the app's ``timezone`` where it is not given. In a change of the clocks
    it does what cron does (:mod:`pgjobs_celery.beat.cron_times`), and where day of month and day of
    week
    are both given either will do; Celery's ``crontab`` asks for both, and skips the repeated hour.
    Raises InvalidOption for what is no expression or time zone.
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


def next_tick(given: BaseSchedule, after: datetime) -> datetime:
    """When a schedule is due next after a moment, in UTC, whatever class it is of.

    Asked as Celery's beat does, only that to the schedule it is that moment now. Raises
    InvalidOption for one that names no later moment.
    """
    if type(given) is schedule and not given.relative:
        # In real time, where Celery before 5.7 goes by what the clocks show.
        return _later(given, after, after.astimezone(timezone.utc) + given.run_every)
    # Not copy.copy(): what Celery's classes say of themselves to pickle leaves out their app.
    asked = object.__new__(type(given))
    asked.__dict__.update(given.__dict__)
    local = after.astimezone(_zone_of(given))
    if type(given) in CELERYS or type(given) is cron:
        return _later(given, after, _estimate(asked, local))
    return _next_of_other(asked, local)


def _estimate(asked: BaseSchedule, after: datetime) -> datetime:
    """What it says comes after a moment, or that moment where it names no later one."""
    last = after
    for _ in range(MOST_ANSWERS):
        asked.nowfun = lambda last=last: last
        last_utc = last.astimezone(timezone.utc)
        due: datetime = last_utc + asked.remaining_estimate(last)
        if isinstance(asked, solar) and due - last_utc < SAME_EVENT:
            due = last_utc + SAME_EVENT
        elif due > after or due == last_utc:
            return due
        # In the second of two repeated hours crontab names a time in the first: on from there.
        last = due.astimezone(after.tzinfo)
    return after


def _next_of_other(asked: BaseSchedule, after: datetime) -> datetime:
    """When one of a class of somebody's own is due: when it says so itself, asked as it wants."""
    try:
        now = _estimate(asked, after)
    except NotImplementedError:
        asked.nowfun = lambda: after
        now = after.astimezone(timezone.utc) + _wait(asked, asked.is_due(after))
    for _ in range(MOST_ANSWERS):
        at = now.astimezone(after.tzinfo)
        asked.nowfun = lambda at=at: at
        answer = asked.is_due(after)
        if answer[0]:
            return _later(asked, after, now)
        now += _wait(asked, answer)
    raise InvalidOption(f"{asked!r} is not due in {MOST_ANSWERS:,} answers of is_due")


def _wait(asked: BaseSchedule, answer: Any) -> timedelta:
    try:
        return timedelta(seconds=max(float(answer[1]), 0.001))
    except (TypeError, ValueError):
        raise InvalidOption(f"{asked!r} does not say when to ask it again: {answer!r}") from None


def _later(given: BaseSchedule, after: datetime, due: datetime) -> datetime:
    if due <= after:
        raise InvalidOption(f"{given!r} is due at once, again and again")
    return due.astimezone(timezone.utc)


def _zone_of(given: BaseSchedule) -> tzinfo:
    """Where it takes its days and hours from: as Celery's beat, from what it says is now."""
    if isinstance(given, solar):
        return timezone.utc  # before Celery 5.7 it is an hour off when the clocks of a zone change
    zone: tzinfo = getattr(given.now(), "tzinfo", None) or given.tz
    return given.tz if type(given) is cron else zone


def to_schedule(given: Any, *, relative: bool = False, app: Any = None) -> BaseSchedule:
    """A schedule from what ``beat_schedule`` takes, or a cron expression.

    Raises InvalidOption for anything else.
    """
    if isinstance(given, str):
        return cron(given, app=app)
    try:
        found = maybe_schedule(given, relative, app=app)
    except (AttributeError, OverflowError, ValueError):
        found = None
    if not isinstance(found, BaseSchedule):
        raise InvalidOption(
            f"a schedule is a number of seconds, a timedelta, crontab(), cron() or a cron "
            f"expression, not {given!r}"
        )
    return found


def to_spec(given: BaseSchedule) -> dict[str, Any]:
    """A schedule as JSON has it; of a class that is not Celery's or ours, only its repr."""
    if type(given) is cron:
        return {"type": "cron", "expression": given.expression, "tz": given.tz_name}
    if type(given) is crontab:
        fields = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
        return {
            "type": "crontab",
            **{name: _field(getattr(given, f"_orig_{name}")) for name in fields},
        }
    if type(given) is solar:
        return {"type": "solar", "event": given.event, "lat": given.lat, "lon": given.lon}
    if type(given) is schedule:
        seconds = given.run_every.total_seconds()
        return {"type": "interval", "every": seconds, "relative": bool(given.relative)}
    kind = f"{type(given).__module__}.{type(given).__qualname__}"
    return {"type": OTHER, "class": kind, "repr": _same(given)}


def definition_of(given: BaseSchedule) -> str:
    """The same for schedules that have the same ticks, in every process that makes them.

    For a class of somebody's own: if class, repr and attributes are the same.
    """
    said: list[Any] = [to_spec(given)]
    if not ((type(given) is schedule and not given.relative) or type(given) is solar):
        said.append(str(_zone_of(given)))
    if said[0]["type"] == OTHER:
        left_out = ("_app", "nowfun", "tz", "utc_enabled")
        said += [
            (name, _same(v)) for name, v in sorted(vars(given).items()) if name not in left_out
        ]
    return digest(*said)


def _same(value: Any) -> str:
    """Its repr as other processes have it: without addresses, and sets in order."""
    if isinstance(value, (set, frozenset)):
        return repr(sorted(map(_same, value)))
    if isinstance(value, dict):
        return repr([(_same(key), _same(each)) for key, each in value.items()])
    if isinstance(value, (list, tuple)):
        return repr([*map(_same, value)])
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def from_spec(spec: Mapping[str, Any], app: Any) -> BaseSchedule | None:
    """The schedule that :func:`to_spec` has described; None where only a program knows it."""
    said = {name: value for name, value in spec.items() if name != "type"}
    kind = spec.get("type")
    if kind == "cron":
        return cron(said["expression"], said.get("tz"), app=app)
    if kind == "crontab":
        return crontab(**said, app=app)
    if kind == "solar":
        return solar(said["event"], said["lat"], said["lon"], app=app)
    if kind == "interval":
        return schedule(said["every"], said.get("relative", False), app=app)
    return None


def to_expression(given: crontab) -> str | None:
    """Celery's crontab as a cron expression that is due at the same times by the wall clock.

    None where it names a day of the month and one of the week: cron has no word for both.
    """
    if len(given.day_of_month) < 31 and len(given.day_of_week) < 7:
        return None
    fields = (
        (given._orig_minute, given.minute, 60),
        (given._orig_hour, given.hour, 24),
        (given._orig_day_of_month, given.day_of_month, 31),
        (given._orig_month_of_year, given.month_of_year, 12),
        (given._orig_day_of_week, given.day_of_week, 7),
    )
    return " ".join(_cron_field(*field) for field in fields)


def digest(*parts: Any) -> str:
    """The same for what was said alike."""
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _field(value: Any) -> Any:
    """A crontab's field as it was written."""
    return value if isinstance(value, (str, int)) else sorted(value)


def _cron_field(written: Any, numbers: set[int], count: int) -> str:
    """A field in numbers; a step stays one, for what changes of the clocks do to it."""
    if len(numbers) == count:
        return "*"
    if isinstance(written, str) and re.fullmatch(r"\*/[0-9]+", written):
        return written
    return ",".join(map(str, sorted(numbers)))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidOption(
            f"{name!r} is no time zone that this machine knows: write it as in Europe/Berlin "
            "(where it has none at all, pip install tzdata)"
        ) from None


def _aware(moment: datetime, zone: tzinfo) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
