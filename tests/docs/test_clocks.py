"""What the documents say of nights in which clocks change is what happens."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from celery.schedules import crontab

from pgjobs_celery import cron
from pgjobs_celery.beat.next_tick import next_tick

from ..beat.test_next_tick import app_in, celerys, ours
from .documents import ROOT, read_tables

DOCUMENT = ROOT / "docs" / "explanation" / "clocks-and-schedules.md"

#: The zone, the change, in UTC, and minute and hour of the entry that is skipped or repeated.
NIGHTS = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1), "30 2"),
    ("Europe/Berlin", datetime(2026, 10, 25, 1), "30 2"),
    ("America/New_York", datetime(2026, 3, 8, 7), "30 2"),
    ("America/New_York", datetime(2026, 11, 1, 6), "30 1"),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30), "15 2"),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15), "45 1"),
]


def expected_rows() -> list[list[str]]:
    rows = []
    for name, change, daily in NIGHTS:
        zone = ZoneInfo(name)
        middle = change.replace(tzinfo=timezone.utc)
        start = middle - timedelta(hours=2, microseconds=1)
        end = middle + timedelta(hours=2)
        for entry in (f"{daily} * * *", "0 * * * *", "*/30 * * * *"):
            minute, hour, *_ = entry.split()
            celery = crontab(minute=minute, hour=hour, app=app_in(name))
            found = [
                celerys(celery, celery.app, start, end),
                ours(cron(entry, tz=name), start, end),
            ]
            assert ours(celery, start, end) == found[0], f"{entry} in {name}"
            night = middle.astimezone(zone)
            rows.append(
                [f"{name}, {night:%B} {night.day}", f"`{entry}`"]
                + [", ".join(show(each.astimezone(zone)) for each in ticks) for ticks in found]
            )
    return rows


def show(tick: datetime) -> str:
    """The time of day, and that it is the second of two that the clocks show alike."""
    return f"{tick:%H:%M}{' again' if tick.fold else ''}"


def test_nights_in_which_clocks_change_are_as_the_table_says():
    table = next(rows for title, rows in read_tables(DOCUMENT) if title == "When the clocks change")
    assert table == expected_rows()


def test_the_example_of_a_night_is_one_of_the_table():
    night = datetime(2026, 3, 28, 23, tzinfo=timezone.utc)
    assert show(next_tick(cron("30 2 * * *", tz="Europe/Berlin"), night)) == "01:00"
