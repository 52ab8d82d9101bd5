"""The IANA time zone tables that the ``tzdata`` package ships: countries, zones, clock changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from zoneinfo import ZoneInfo, reset_tzpath

# The package's tables only, whatever the system has: the same answers on every machine.
reset_tzpath(to=[])


def read_countries() -> dict[str, str]:
    """The name of each country by its ISO 3166 code, 249 of them."""
    return dict(_rows("iso3166.tab"))


def read_zones() -> dict[str, list[str]]:
    """The zones of each country by its code; an uninhabited one has none."""
    zones: dict[str, list[str]] = {}
    for code, _, zone, *_ in _rows("zone.tab"):
        zones.setdefault(code, []).append(zone)
    return zones


def next_change(zone: str, after: datetime) -> tuple[datetime, timedelta, timedelta] | None:
    """When the clocks change next, and the offset from UTC before and after it.

    None where they stay as they are for the next 400 days. Raises ZoneInfoNotFoundError for a
    zone that does not exist.
    """
    where = ZoneInfo(zone)

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(where).utcoffset() or timedelta()

    day = timedelta(days=1)
    start = after.astimezone(timezone.utc).replace(microsecond=0)
    for _ in range(400):
        if offset(start) != offset(start + day):
            break
        start += day
    else:
        return None
    early, late = start, start + day
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(late - early).total_seconds() // 2)
        if offset(middle) == offset(early):
            early = middle
        else:
            late = middle
    return late, offset(early), offset(late)


def _rows(table: str) -> Iterator[list[str]]:
    text = files("tzdata").joinpath("zoneinfo", table).read_text(encoding="utf-8")
    return (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
