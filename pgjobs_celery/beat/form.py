"""Read an entry from texts, as a form has them, and write the command that would make it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any

from celery.schedules import BaseSchedule, crontab, solar

from ..errors import InvalidOption
from .cron import cron

#: The kinds of schedules that can be written down.
KINDS = ("cron", "crontab", "every", "solar")
#: How long a text may be that says when, and one with arguments, in characters.
LONGEST_WHEN, LONGEST_JSON = 1000, 100_000

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
#: The marks between the numbers of a field: a crontab's range of 100,000,000 is refused unread.
_NUMBER = re.compile(r"[0-9]{5,}")


@dataclass(frozen=True)
class EntryForm:
    """The fields of a form, unchecked."""

    name: str
    task: str
    kind: str
    #: ``0 2 * * *``, ``15m``, ``sunset 52.5 13.4``.
    when: str
    #: Of a cron expression; empty for the app's.
    tz: str = ""
    args: str = ""
    kwargs: str = ""
    options: str = ""
    missed: str = "once"
    missed_limit: str = "100"

    def read(self, app: Any) -> dict[str, Any]:
        """The arguments of :meth:`~pgjobs_celery.beat.schedules.Schedules.put`.

        Raises InvalidOption for a text that cannot be read; what it means is checked there.
        """
        options = _read_json("options", self.options, dict) or {}
        taken = {"name", "task", "schedule", "args", "kwargs", "missed", "missed_limit"}
        for name in taken & options.keys():
            raise InvalidOption(f"{name!r} is not an option of a job: it has a field of its own")
        return {
            **options,
            "name": self.name,
            "task": self.task,
            "schedule": read_when(self.kind, self.when, self.tz, app),
            "args": _read_json("args", self.args, list) or (),
            "kwargs": _read_json("kwargs", self.kwargs, dict),
            "missed": self.missed,
            "missed_limit": _read_number("missed_limit", self.missed_limit),
        }

    def command(self, *, replaces: bool) -> str:
        """The command that makes the same entry from a shell."""
        words = ["celery -A proj pgjobs schedules add", quote(self.name), quote(self.task)]
        when = self.when if self.kind == "solar" else quote(self.when)
        words += [f"--{self.kind}", when]
        given = {"tz": self.tz, "args": self.args, "kwargs": self.kwargs, "options": self.options}
        words += [f"--{name} {quote(text)}" for name, text in given.items() if text.strip()]
        if self.missed != "once":
            words.append(f"--missed {quote(self.missed)}")
        if self.missed == "all" and self.missed_limit != "100":
            words.append(f"--missed-limit {quote(self.missed_limit)}")
        return " ".join([*words, "--replace"] if replaces else words)


def read_when(kind: str, when: str, tz: str, app: Any) -> BaseSchedule | float:
    """The schedule that is written down. Raises InvalidOption."""
    when = " ".join(when.split())
    if kind not in KINDS:
        raise InvalidOption(f"a schedule is one of {', '.join(KINDS)}, not {kind!r}")
    if not when:
        raise InvalidOption("say when it is due: 0 2 * * *, or 15m")
    if len(when) > LONGEST_WHEN:
        raise InvalidOption(f"a schedule has at most {LONGEST_WHEN:,} characters")
    if tz.strip() and kind != "cron":
        raise InvalidOption("a time zone belongs to a cron expression; others have the app's")
    if kind == "cron":
        return cron(when, tz.strip() or None, app=app)
    if kind == "every":
        found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([smhdw]?)", when.lower())
        if not found or not float(found[1]):
            raise InvalidOption(f"{when!r} is not an interval: write 90, 15m, 2h or 3d")
        return float(found[1]) * _UNITS[found[2]]
    try:
        return _crontab(when, app) if kind == "crontab" else _solar(when, app)
    except InvalidOption:
        raise
    except Exception as error:  # Celery's own have several classes; solar() may miss its library
        raise InvalidOption(f"Celery has no {kind} {when!r}: {error}") from error


def _crontab(when: str, app: Any) -> BaseSchedule:
    words = when.split()
    if len(words) != 5:
        raise InvalidOption("write minute, hour, day of month, month and day of week")
    if _NUMBER.search(when):
        raise InvalidOption(f"{when!r} is not a crontab: a number has at most four digits")
    minute, hour, day_of_month, month_of_year, day_of_week = words
    return crontab(minute, hour, day_of_week, day_of_month, month_of_year, app=app)


def _solar(when: str, app: Any) -> BaseSchedule:
    words = when.split()
    if len(words) != 3:
        raise InvalidOption("write the event, latitude and longitude: sunset 52.5 13.4")
    return solar(words[0], float(words[1]), float(words[2]), app=app)


def _read_json(name: str, text: str, kind: type) -> Any:
    """The value of a field; None for an empty one."""
    if not text.strip():
        return None
    if len(text) > LONGEST_JSON:
        raise InvalidOption(f"{name} have at most {LONGEST_JSON:,} characters")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidOption(f"{name} are not JSON: {error}") from None
    if not isinstance(value, kind):
        shown = "an array: [1, 2]" if kind is list else 'an object: {"user_id": 7}'
        raise InvalidOption(f"{name} must be {shown}")
    return value


def _read_number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise InvalidOption(f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)


def write_when(spec: Mapping[str, Any]) -> tuple[str, str, str]:
    """Kind, text and time zone of a schedule as a row has it, for a form; empty where unknown."""
    kind = spec.get("type")
    try:
        if kind == "cron":
            return "cron", str(spec["expression"]), str(spec.get("tz") or "")
        if kind == "crontab":
            order = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
            values = [spec[name] for name in order]
            fields = [",".join(map(str, v)) if isinstance(v, list) else str(v) for v in values]
            return "crontab", " ".join(fields), ""
        if kind == "interval" and not spec.get("relative"):
            every = float(spec["every"])
            return "every", str(int(every)) if every.is_integer() else f"{every:f}".rstrip("0"), ""
        if kind == "solar":
            return "solar", f"{spec['event']} {spec['lat']:g} {spec['lon']:g}", ""
    except (KeyError, TypeError, ValueError):
        pass
    return "", "", ""
