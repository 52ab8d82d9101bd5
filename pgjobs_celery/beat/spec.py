"""Schedules as rows hold them, in JSON, and back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from celery.schedules import BaseSchedule, crontab, maybe_schedule, schedule, solar

from ..errors import InvalidOption
from .cron import cron
from .next_tick import zone_of

#: The type, in a row, of a schedule of a class that is neither Celery's nor ours.
OTHER = "other"


def to_schedule(given: Any, *, relative: bool = False, app: Any = None) -> BaseSchedule:
    """A schedule from a value that ``beat_schedule`` accepts, or a cron expression.

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
    """The same text for schedules that have the same ticks, in every process that makes them.

    Schedules of another class are the same if class, repr and attributes are.
    """
    parts: list[Any] = [to_spec(given)]
    if not ((type(given) is schedule and not given.relative) or type(given) is solar):
        parts.append(str(zone_of(given)))
    if parts[0]["type"] == OTHER:
        left_out = ("_app", "nowfun", "tz", "utc_enabled")
        parts += [
            (name, _same(v)) for name, v in sorted(vars(given).items()) if name not in left_out
        ]
    return digest(*parts)


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
    fields = {name: value for name, value in spec.items() if name != "type"}
    kind = spec.get("type")
    if kind == "cron":
        return cron(fields["expression"], fields.get("tz"), app=app)
    if kind == "crontab":
        return crontab(**fields, app=app)
    if kind == "solar":
        return solar(fields["event"], fields["lat"], fields["lon"], app=app)
    if kind == "interval":
        return schedule(fields["every"], fields.get("relative", False), app=app)
    return None


def to_expression(given: crontab) -> str | None:
    """Celery's crontab as a cron expression that is due at the same times by the wall clock.

    None where it names a day of the month and one of the week: cron cannot require both.
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
    """The same text for equal parts."""
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _field(value: Any) -> Any:
    """A crontab's field as it was written."""
    return value if isinstance(value, (str, int)) else sorted(value)


def _cron_field(written: Any, numbers: set[int], count: int) -> str:
    """A field in numbers; a step stays one, because changes of the clocks affect it differently."""
    if len(numbers) == count:
        return "*"
    if isinstance(written, str) and re.fullmatch(r"\*/[0-9]+", written):
        return written
    return ",".join(map(str, sorted(numbers)))
