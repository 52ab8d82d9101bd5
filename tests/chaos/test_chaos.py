"""Break everything, on a seeded schedule, while thousands of jobs run; then ask the oracle.

``make chaos`` goes on for PGJOBS_CHAOS_SECONDS, with PGJOBS_CHAOS_SEED for the dice and workers
that are dead after PGJOBS_CHAOS_LEASE. With 0 seconds, as in CI, every fault comes once, on two of
the systems. In the suite it is skipped, for it takes a minute.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from ..conftest import close_app
from ..e2e.conftest import running_workers
from ..support.waiting import wait_for
from . import tasks
from .breaking import LEASE, Chaos
from .oracle import Oracle, describe, read_rows, rescue_times
from .producing import Producer, publishing
from .systems import SYSTEMS, PooledPolling, Replicated, System, running_system

#: 0 for the short run.
SECONDS = float(os.environ.get("PGJOBS_CHAOS_SECONDS", "0"))
SEED = int(os.environ.get("PGJOBS_CHAOS_SEED", "1"))

#: What the short run is for: behind pgbouncer everything can break that can break without it.
SHORT = [PooledPolling, Replicated]

#: How long the rest may take once the faults are over.
DRAIN = max(60.0, 2 * SECONDS, 6 * LEASE)


@pytest.mark.skipif("PGJOBS_CHAOS_SECONDS" not in os.environ, reason="takes a minute: make chaos")
@pytest.mark.timeout(2 * SECONDS + DRAIN + 120)
@pytest.mark.parametrize("kind", SYSTEMS if SECONDS else SHORT, ids=lambda kind: kind.name)
def test_nothing_is_lost_and_nothing_repeats_by_accident(
    kind: type[System], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = tmp_path / "oracle"
    oracle.touch()
    dice = random.Random(SEED)
    with running_system(kind) as system:
        tasks.app.conf.update(broker_url=system.url, result_backend=system.url, **system.conf)
        with running_workers(system.url, tmp_path) as start:
            chaos = Chaos(system, start, {"PGJOBS_CHAOS_ORACLE": str(oracle)}, dice)
            with publishing(Producer, tasks.app, system.connect, SEED) as producers:
                break_things(chaos, dice)
            wait_until_finished(system)
        close_app(tasks.app)
        published = {k: v for producer in producers for k, v in producer.published.items()}
        with system.connect() as connection:
            rows = read_rows(connection)
            times = rescue_times(connection, chaos.killed)
    seen = Oracle(oracle)
    verdict = seen.judge(published, rows)
    ends = Counter(f"{kind} {rows[i]['state']}" for i, kind in published.items() if i in rows)
    with capsys.disabled():
        print(f"\n{kind.name}, seed {SEED}: {sum(chaos.done.values())} faults {dict(chaos.done)}")
        print(f"  {len(published)} jobs published, {sum(p.failed for p in producers)} failed to be")
        print(f"  ended {dict(sorted(ends.items()))}")
        print(f"  {sum(seen.runs.values())} runs; rescue after {describe(times)}")
    assert verdict.failures() == {}
    assert chaos.hostile <= rows.keys()
    assert len(published) > 100


def break_things(chaos: Chaos, dice: random.Random) -> None:
    """Every fault once, or for as long as was asked for."""
    if SECONDS:
        end = time.monotonic() + SECONDS
        faults = takewhile(lambda _: time.monotonic() < end, chaos.schedule(long=True))
        pause = (0.3, 2.0)
    else:
        faults = (name for name, _ in zip(chaos.schedule(long=False), chaos.faults, strict=False))
        pause = (0.2, 0.8)
    for name in faults:
        time.sleep(dice.uniform(*pause))  # the schedule of the faults
        chaos.inflict(name)


#: What has not ended, and who holds it.
UNFINISHED = """
    SELECT j.task, j.state, j.attempt, j.attempted_by, n.name AS node,
           extract(epoch FROM now() - j.attempted_at)::int AS claimed_for,
           extract(epoch FROM now() - n.heartbeat_at)::int AS silent_for
    FROM pgjobs.jobs AS j LEFT JOIN pgjobs.nodes AS n ON n.node = j.claimed_by
    WHERE j.finished_at IS NULL
"""


def wait_until_finished(system: System) -> None:
    """Until no job is left that waits or runs."""
    with system.connect() as connection:

        def unfinished() -> list[Any]:
            return connection.execute(UNFINISHED).fetchall()

        wait_for(lambda: not unfinished(), DRAIN, unfinished)
