"""Schedules in plain English, from what their rows have: no Celery, and no app."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import InvalidOption
from .cron_times import has_either_day, parse

try:
    from cron_descriptor import Options, get_description
except ImportError:  # it comes with the extra ``web``
    get_description = None

#: The fields of a cron expression, and of a crontab in a row: first value, how many there are.
_FIELDS = {
    "minute": (0, 60), "hour": (0, 24), "day_of_month": (1, 31), "month_of_year": (1, 12),
    "day_of_week": (0, 7),
}  # fmt: skip
_UNITS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}
_SHORT = {"day": "d", "hour": "h", "minute": "min", "second": "s"}
#: Celery's events, as people call them.
_EVENTS = {
    f"{time}_{kind}": f"{kind} {time}"
    for time in ("dawn", "dusk")
    for kind in ("civil", "nautical", "astronomical")
} | {"solar_noon": "solar noon"}
#: Longer texts are shown as they are.
LONGEST = 200


def describe(spec: Mapping[str, Any]) -> str:
    """``"At 02:00, every day"`` for a schedule as a row has it; empty where it has no words for it.

    That is so for schedules of a program's own classes, for rows that were written by hand and
    cannot be read, and for cron expressions where cron-descriptor is not installed.
    """
    try:
        if spec["type"] == "interval":
            return _interval(float(spec["every"]), relative=bool(spec.get("relative")))
        if spec["type"] == "solar":
            return _solar(str(spec["event"]), float(spec["lat"]), float(spec["lon"]))
        if spec["type"] == "cron":
            return _cron(str(spec["expression"]))
        if spec["type"] == "crontab":
            return _fields([_written(spec[name]) for name in _FIELDS])
    except (KeyError, TypeError, ValueError, OverflowError, InvalidOption):
        pass
    return ""


def short_interval(seconds: float) -> str:
    """An interval for a narrow column, exact to the microsecond; empty where it cannot be one.

    >>> short_interval(0.5), short_interval(300), short_interval(5400)
    ('0.5 s', '5 min', '1 h 30 min')
    """
    return " ".join(f"{_number(count)} {_SHORT[unit]}" for count, unit in _parts(seconds))


def _interval(seconds: float, *, relative: bool) -> str:
    words = [_count(*part) for part in _parts(seconds)]
    if not words:
        return ""
    text = " ".join(words)
    if text.startswith("1 ") and len(words) == 1:
        text = text[2:]
    return f"Every {text}{', by the clock' if relative else ''}"


def _parts(seconds: float) -> Iterator[tuple[float, str]]:
    """Days, hours, minutes and seconds, those that are not 0."""
    rest = round(seconds, 6) if 0 < seconds < 1e11 else 0
    for unit, size in _UNITS.items():
        count = rest if unit == "second" else rest // size
        rest = round(rest - count * size, 6)
        if count:
            yield count, unit


def _count(count: float, unit: str) -> str:
    return f"{_number(count)} {unit}{'' if count == 1 else 's'}"


def _number(count: float) -> str:
    """Without an exponent, and without zeros at its end."""
    return f"{count:f}".rstrip("0").rstrip(".")


def _solar(event: str, lat: float, lon: float) -> str:
    north, east = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
    return f"At {_EVENTS.get(event, event)}, at {abs(lat):g}° {north}, {abs(lon):g}° {east}"


def _cron(expression: str) -> str:
    if len(expression) > LONGEST:
        return ""
    fields = [_plain(*each) for each in zip(parse(expression), _FIELDS.values(), strict=True)]
    # cron takes a day of either kind, Celery's crontab one that is of both.
    return _fields(fields, joint="or" if has_either_day(expression) else "only")


def _fields(fields: Sequence[str], joint: str = "only") -> str:
    """Five fields; ``joint`` is the word between days of the month and of the week.

    The releases of the library differ in how they understand both together: it gets one of them.
    """
    *others, weekday = fields
    if others[2] == "*" or weekday == "*":
        return _text(fields)
    text, days = _text([*others, "*"]), _text(["0", "0", "*", "*", weekday])
    days = days.removeprefix("At 00:00, ").removeprefix("only ")
    return f"{text}, {joint} {days}" if text and days else ""


def _text(fields: Sequence[str]) -> str:
    expression = " ".join(fields).upper()  # the library knows L, and not l
    if get_description is None or len(expression) > LONGEST:
        return ""
    options = Options()
    options.use_24hour_time_format = True
    options.throw_exception_on_parse_error = True
    try:
        text = str(get_description(expression, options))
    except Exception:  # it has several classes of its own
        return ""
    if fields[0] == "0":
        text = text.removeprefix("At 0 minutes past the hour, ")
        if text.lower().startswith("between "):
            text = f"Every hour, b{text[1:]}"
        text = text[:1].upper() + text[1:]
    is_daily = list(fields[2:]) == ["*", "*", "*"] and text.startswith("At ") and "past" not in text
    return f"{text}, every day" if is_daily else text


def _written(value: Any) -> str:
    """A crontab's field as cron writes it: row 1, 2, 3 as 1-3."""
    if not isinstance(value, list):
        return str(value)
    runs: list[list[int]] = []
    for number in sorted(map(int, value)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs
    )


def _plain(field: str, bounds: tuple[int, int]) -> str:
    """A field in which a step that leads nowhere is left out: ``*/90`` minutes are minute 0."""
    first, count = bounds
    parts = []
    for part in field.split(","):
        found = re.fullmatch(r"(?:(\*)|(\d+)(?:-\d+)?)/(\d+)", part)
        leads_nowhere = found is not None and int(found[3]) >= count
        parts.append(str(found[2] or first) if found and leads_nowhere else part)
    return ",".join(parts)
