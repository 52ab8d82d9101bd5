"""How the commands of ``celery pgjobs schedules`` show an entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING, Any

from ..job.states import State
from .output import show_table

if TYPE_CHECKING:
    from ..beat.schedule import Schedule


def as_data(entry: Schedule) -> dict[str, Any]:
    """An entry as ``--json`` prints it: its fields, the schedule as its row has it, times in ISO
    8601."""
    # Options may hold dates and UUIDs: written as by Celery's JSON serializer.
    from kombu.utils.json import dumps

    data: dict[str, Any] = {}
    for field in fields(entry):
        value = getattr(entry, field.name)
        if isinstance(value, datetime):
            value = value.astimezone(timezone.utc).isoformat()
        elif isinstance(value, State):
            value = value.value
        data[field.name] = value
    data["schedule"] = data.pop("spec")
    plain: dict[str, Any] = json.loads(dumps(data))
    return plain


def when(entry: Schedule, zone: tzinfo) -> str:
    """When it is due next, as the end of a sentence about it."""
    if entry.next_run_at is None:
        return "is paused" if entry.is_paused else "is damaged"
    return f"is due next at {entry.next_run_at.astimezone(zone):%Y-%m-%d %H:%M:%S %z}"


def readable(spec: Mapping[str, Any]) -> str:
    """A schedule for people."""
    kind = spec.get("type")
    try:
        if kind == "cron":
            return f"{spec['expression']} {spec.get('tz') or ''}".strip()
        if kind == "crontab":
            order = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
            words = [spec[name] for name in order]
            fields = [",".join(map(str, w)) if isinstance(w, list) else str(w) for w in words]
            return f"crontab {' '.join(fields)}"
        if kind == "interval":
            # Every celery command imports this module; only this one needs the words.
            from ..beat.english import short_interval

            return f"every {short_interval(spec['every'])}"
        if kind == "solar":
            return f"{spec['event']} at {spec['lat']:g}, {spec['lon']:g}"
        return str(spec["repr"])
    except Exception:  # a row that was written by hand may hold anything
        return json.dumps(dict(spec))


def print_entries(entries: list[Schedule], zone: tzinfo, *, no_color: bool) -> None:
    """One line per entry; a column that no entry needs is left out."""
    columns: dict[str, Callable[[Schedule], str]] = {
        "name": lambda entry: entry.name,
        "schedule": lambda entry: readable(entry.spec),
        "task": lambda entry: entry.task,
        "next run": lambda entry: next_run(entry, zone),
        "last run": lambda entry: shown(entry.last_run_at, zone),
        "outcome": lambda entry: entry.last_state.value if entry.last_state else "",
        "missed": lambda entry: entry.missed,
        "paused since": lambda entry: shown(entry.paused_at, zone),
        "damage": lambda entry: entry.damage,
    }
    if not any(entry.is_paused for entry in entries):
        del columns["paused since"]
    if not any(entry.damage for entry in entries):
        del columns["damage"]
    show_table(
        [
            (name, {"overflow": "fold", "no_wrap": "run" in name or "since" in name})
            for name in columns
        ],
        [[cell(entry) for cell in columns.values()] for entry in entries],
        no_color=no_color,
    )


def next_run(entry: Schedule, zone: tzinfo) -> str:
    """When it is due next, or why it is not."""
    if entry.is_paused:
        return "paused"
    return shown(entry.next_run_at, zone) or "damaged"


def shown(at: datetime | None, zone: tzinfo) -> str:
    """A time for people."""
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}" if at else ""
