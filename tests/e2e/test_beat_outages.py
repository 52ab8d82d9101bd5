"""A beat in a worker whose server is away for long, and beats whose machine's clock jumps."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from pgjobs_celery.embedded import EmbeddedServer

from ..support.waiting import wait_for
from .beats import SCHEDULER, StartBeat, running_beats
from .conftest import StartWorker
from .rows import Rows
from .test_beat import entry, lateness, steps, ticks
from .test_clocks import LIBRARY

#: After how many seconds a tick is missed. ``PGJOBS_TEST_LONG=1``: as it is outside of tests.
GRACE = 60.0 if os.environ.get("PGJOBS_TEST_LONG") else 8.0
#: How long the server is away, in seconds: longer than that.
AWAY = GRACE + 6.0


@pytest.fixture
def beat(url: str, tmp_path: Path) -> Iterator[StartBeat]:
    """A factory of beats."""
    with running_beats(url, tmp_path) as start:
        yield start


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.timeout(240)
def test_a_beat_in_a_worker_makes_up_for_an_outage_longer_than_the_grace(
    worker: StartWorker, fresh_rows: Callable[[], Rows], server: EmbeddedServer, pool: str
) -> None:
    schedule = {name: entry(1.0, missed=name, missed_limit=30) for name in ("once", "skip", "all")}
    schedule["rare"] = entry(3.0, missed="all", missed_limit=20)
    started = worker(
        pool=pool,
        args=["--beat", "--scheduler", SCHEDULER],
        conf={"beat_schedule": schedule, "broker_connection_max_retries": None},
        env={"PGJOBS_TEST_GRACE": str(GRACE)},
    )
    rows = fresh_rows()
    wait_for(lambda: all(len(ticks(rows).get(name, ())) >= 2 for name in schedule), 30)
    begun = time.monotonic()
    server.stop()
    try:
        with pytest.raises(psutil.TimeoutExpired):  # it stays, for as long as it takes
            psutil.Process(started.pid).wait(AWAY)
    finally:
        server.start()
    rows = fresh_rows()
    before = {name: len(found) for name, found in ticks(rows).items()}
    wait_for(
        lambda: all(len(ticks(rows)[name]) >= before[name] + 3 for name in schedule),
        40,
        lambda: started.log,
    )
    over = time.monotonic() - begun
    found = ticks(rows)
    gaps = {
        name: max((b - a).total_seconds() for a, b in pairwise(moments))
        for name, moments in found.items()
    }
    # What is not older than the grace is published, whatever the policy; a tick never twice.
    assert all(len(moments) == len(set(moments)) for moments in found.values())
    assert 1 < gaps["skip"] < over - GRACE + 2
    assert gaps["once"] == gaps["skip"]
    assert gaps["all"] == 1.0
    assert set(steps(found["rare"])) <= {3.0}
    wait_for(lambda: set(rows.count()) <= {"completed"}, 40, lambda: str(rows.count()))
    assert started.stop() == 0


@pytest.mark.skipif(
    LIBRARY is None, reason="needs libfaketime (Debian, Ubuntu: apt install faketime)"
)
@pytest.mark.parametrize("jump", ["+3h", "-3h", "+400d"])
def test_a_clock_that_jumps_moves_no_tick(
    beat: StartBeat, rows: Rows, tmp_path: Path, jump: str
) -> None:
    schedule = {"second": entry(1.0), "minute": entry("* * * * *")}
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    started = beat(
        schedule,
        env={
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    wait_for(lambda: len(ticks(rows).get("second", ())) >= 3, 20, lambda: started.log)
    for text in (jump, "+0", jump):
        offset.write_text(f"{text}\n")
        count = len(ticks(rows)["second"])
        wait_for(
            lambda count=count: len(ticks(rows)["second"]) >= count + 3, 20, lambda: started.log
        )
    found = ticks(rows)
    assert steps(found["second"]).keys() == {1.0}
    assert len(found.get("minute", ())) <= 2
    assert all(0 <= late < 30 for late in lateness(rows))
    assert started.stop(signal.SIGTERM) == 0
    assert "Traceback" not in started.log
