"""Beats that are killed, cut off and started too early: each tick once, and none missing."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery

from pgjobs_celery.beat.scheduler import PgScheduler
from pgjobs_celery.embedded import EmbeddedServer

from ..support.waiting import wait_for
from .beats import StartBeat, running_beats
from .conftest import StartWorker
from .rows import Rows

TASK = "tests.e2e.tasks.add"


@pytest.fixture
def beat(url: str, tmp_path: Path) -> Iterator[StartBeat]:
    """A factory of beats: ``beat({"name": {"task": ..., "schedule": 1}}, conf={...})``."""
    with running_beats(url, tmp_path) as start:
        yield start


def entry(schedule: Any, **fields: Any) -> dict[str, Any]:
    return {"task": TASK, "schedule": schedule, "args": (1, 2), **fields}


def ticks(rows: Rows) -> dict[str, list[datetime]]:
    """The ticks that there are jobs of, for each entry, in order."""
    found: dict[str, list[datetime]] = {}
    for row in rows.select(
        "SELECT meta->>'schedule' AS name, (meta->>'tick')::timestamptz AS at FROM pgjobs.jobs"
        " ORDER BY 2"
    ):
        found.setdefault(row["name"], []).append(row["at"])
    return found


def lateness(rows: Rows) -> list[float]:
    """How long after its tick each job was there, in seconds."""
    query = "SELECT extract(epoch FROM inserted_at - (meta->>'tick')::timestamptz)::float AS s"
    return [row["s"] for row in rows.select(f"{query} FROM pgjobs.jobs")]


def steps(moments: list[datetime]) -> Counter[float]:
    """How far apart they are, in seconds."""
    return Counter((b - a).total_seconds() for a, b in pairwise(moments))


def test_ticks_come_once_each_while_beats_are_killed(
    beat: StartBeat, app: Celery, rows: Rows
) -> None:
    schedule = {
        "second": entry(1.0),
        "third": entry(0.3),
        "many": entry(1.0, options={"queue": "other"}),
    }
    beats = [beat(schedule) for _ in range(3)]
    chance = random.Random(8)
    wait_for(lambda: len(ticks(rows)) == 3)
    for _ in range(3):
        time.sleep(chance.uniform(0.3, 0.9))
        number = chance.randrange(3)
        beats[number].kill()
        beats[number] = beat(schedule)
    count = len(ticks(rows)["second"])
    wait_for(lambda: len(ticks(rows)["second"]) >= count + 2)
    found = ticks(rows)
    assert steps(found["second"]).keys() == steps(found["many"]).keys() == {1.0}
    assert steps(found["third"]).keys() == {0.3}
    published = {
        row["name"]: row for row in rows.select("SELECT * FROM pgjobs.schedules ORDER BY name")
    }
    assert published.keys() == schedule.keys()


def test_a_beat_is_in_time_sees_a_change_at_once_answers_and_leaves_when_it_is_told(
    beat: StartBeat, app: Celery, rows: Rows
) -> None:
    has_remote_control = celery.VERSION >= (5, 7)
    args = ("--enable-remote-control", "--hostname", "beat@test") if has_remote_control else ()
    started = beat({"often": entry(0.2), "rarely": entry(86_400.0)}, *args)
    wait_for(lambda: len(lateness(rows)) >= 10)
    late = sorted(lateness(rows))
    assert late[0] >= 0
    assert late[len(late) // 4] < 0.5  # others use the machine as well

    begun = time.monotonic()
    rows.select(
        "UPDATE pgjobs.schedules SET next_run_at = now(),"
        " version = nextval('pgjobs.schedules_version') WHERE name = 'rarely' RETURNING name"
    )
    wait_for(lambda: "rarely" in ticks(rows))
    assert time.monotonic() - begun < PgScheduler.max_interval / 2

    if has_remote_control:
        wait_for(lambda: "Connected to" in started.log, 15, lambda: started.log)
        replies = app.control.ping(destination=["beat@test"], timeout=10, limit=1)
        assert replies == [{"beat@test": {"ok": "pong"}}]

    assert started.stop(timeout=10) == 0
    assert "Traceback" not in started.log


def test_a_beat_in_a_worker_publishes_what_that_runs(
    worker: StartWorker, beat: StartBeat, rows: Rows
) -> None:
    schedule = {"second": entry(0.5)}
    started = worker(
        args=["--beat", "--scheduler", "pgjobs_celery.beat:PgScheduler"],
        conf={"beat_schedule": schedule},
    )
    beat(schedule)
    wait_for(lambda: rows.count().get("completed", 0) >= 4)
    assert steps(ticks(rows)["second"]).keys() == {0.5}
    assert started.stop() == 0


def test_a_beat_waits_for_a_server_and_catches_up_after_its_restart(
    beat: StartBeat, fresh_rows: Callable[[], Rows], server: EmbeddedServer
) -> None:
    server.stop()
    try:
        started = beat({"second": entry(0.5)})
        wait_for(lambda: "tries again" in started.log, 15, lambda: started.log)
    finally:
        server.start()
    rows = fresh_rows()
    wait_for(lambda: len(ticks(rows).get("second", ())) >= 2)
    server.restart()
    rows = fresh_rows()
    before = len(ticks(rows)["second"])
    wait_for(lambda: len(ticks(rows)["second"]) >= before + 3)
    assert steps(ticks(rows)["second"]).keys() == {0.5}
    assert "connected to the database again" in started.log
    assert started.process.poll() is None


def test_a_beat_without_tables_says_how_to_make_them(
    beat: StartBeat, make_database: Callable[[], str]
) -> None:
    started = beat({}, broker=make_database())
    assert started.process.wait(15) != 0
    assert "pgjobs migrate" in started.log
