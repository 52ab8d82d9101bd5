"""A week of schedules in seconds, both changes of the clocks in it, while beats are killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from celery import Celery

from pgjobs_celery import cron
from pgjobs_celery.beat.clock import Clock
from pgjobs_celery.beat.entry import PgEntry, to_row
from pgjobs_celery.db.rows.schedules import ScheduleRows

from ..support.cron_oracle import ticks_of_intervals, ticks_of_times
from ..support.waiting import wait_for
from .beats import StartBeat, running_beats
from .rows import Rows
from .test_beat import entry, ticks
from .test_clocks import LIBRARY

BERLIN, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe")

#: Before clocks are put forward by an hour in Berlin, and a week later back by half of one on Lord
#: Howe.
ORIGIN = datetime(2027, 3, 27, tzinfo=timezone.utc)
END = ORIGIN + timedelta(days=8)
SPEED = 150_000


def at(hour: int, minute: int) -> Callable[[datetime], bool]:
    return lambda wall: (wall.hour, wall.minute) == (hour, minute)


#: Expressions, and what the clocks show when they are due: at times of day, or in intervals.
CRONS = {
    "daily, skipped": ("30 2 * * *", BERLIN, at(2, 30), ticks_of_times),
    "daily, repeated": ("45 1 * * *", LORD_HOWE, at(1, 45), ticks_of_times),
    "halves": ("*/30 * * * *", BERLIN, lambda wall: wall.minute % 30 == 0, ticks_of_intervals),
    "quarters": (
        *("*/15 * * * *", LORD_HOWE, lambda wall: wall.minute % 15 == 0),
        ticks_of_intervals,
    ),
}


@pytest.fixture
def beat(url: str, tmp_path: Path) -> Iterator[StartBeat]:
    with running_beats(url, tmp_path) as start:
        yield start


def test_a_week_has_exactly_its_ticks(beat: StartBeat, app: Celery, rows: Rows) -> None:
    (now,) = rows.select("SELECT now()")
    anchor = now["now"]
    clock = Clock(ORIGIN, anchor, SPEED)
    conf = {
        "timezone": "Europe/Berlin",
        "pgjobs_beat_clock_origin": ORIGIN.isoformat(),
        "pgjobs_beat_clock_anchor": anchor.isoformat(),
        "pgjobs_beat_clock_speed": SPEED,
    }
    schedule = {"hours": entry(3600.0), "half hours": entry("*/30 * * * *")}
    table = ScheduleRows(app.connection_for_write().transport.database, app.main)
    for name, (expression, zone, *_) in CRONS.items():
        made = cron(expression, tz=str(zone))
        made_at_run_time = PgEntry(**entry(made), name=name, app=app)
        table.put_schedule(to_row(made_at_run_time, ORIGIN, is_configured=False))
    wrong: list[dict[str, str]] = [
        {"LD_PRELOAD": str(LIBRARY), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        for shift in ("+7200", "-7200")
        if LIBRARY is not None
    ]
    clocks: list[dict[str, str]] = [{}, *wrong, {}, {}][:3]
    beats = [beat(schedule, conf=conf, env=env) for env in clocks]
    chance = random.Random(8)

    def time_now() -> datetime:
        (row,) = rows.select("SELECT now()")
        return clock.at(row["now"])

    wait_for(lambda: len(ticks(rows)) == 6)
    while time_now() < END:
        time.sleep(chance.uniform(0.2, 0.8))
        number = chance.randrange(3)
        beats[number].kill()
        beats[number] = beat(schedule, conf=conf, env=clocks[number])
    wait_for(
        lambda: not rows.select("SELECT FROM pgjobs.schedules WHERE next_run_at <= %s", END),
        message=lambda: rows.select("SELECT name, next_run_at FROM pgjobs.schedules"),
    )
    found = ticks(rows)
    for name, (_, zone, matches, look) in CRONS.items():
        expected = look(matches, zone, ORIGIN, END)
        assert [tick for tick in found[name] if tick <= END] == expected, name
    # The program's own began when the first beat did.
    for name, step in (("hours", 3600), ("half hours", 1800)):
        first, last = found[name][0], found[name][-1]
        assert first < ORIGIN + timedelta(days=6)
        count = (last - first) // timedelta(seconds=step) + 1
        assert found[name] == [first + timedelta(seconds=step * n) for n in range(count)]
