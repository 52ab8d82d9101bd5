"""A worker dies between the last result of a header and its body: the body comes exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery, chord
from celery.exceptions import ChordError

from pgjobs_celery.db.database import Database

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows

#: A lease that makes the tests quick; see test_rescue.py.
QUICK = {"pgjobs_lease": 2, "pgjobs_heartbeat_interval": 0.5}

STEPS = (
    "results.finish_job", "groups.count_missing", "groups.lock_chord", "groups.get_parts",
    "jobs.insert_job", "groups.close_chord", "commit",
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_body_comes_once_wherever_its_worker_dies(
    when: str, step: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    header, body = tmp_path / "header", tmp_path / "body"
    canvas = chord(
        [tasks.record_late.s(str(header), 1), tasks.add.s(1, 1)],
        tasks.record_sum.s(str(body)),
    )
    # The body's own statements are not to be the ones that kill.
    victim = worker(
        pool="solo", queues=["celery"], conf=QUICK, env={"PGJOBS_TEST_FAULT": f"{when} {step}"}
    )
    result = canvas.apply_async()
    wait_for(lambda: victim.process.poll() is not None, 15)
    assert lines(body) == []
    worker(pool="threads", conf=QUICK)
    assert result.get(timeout=20) == 3
    assert len(lines(body)) == 1
    row = rows.get(result.id)
    assert (row["state"], row["attempt"]) == ("completed", 1)
    (chord_row,) = rows.select("SELECT * FROM pgjobs.groups")
    assert chord_row["published_at"] is not None


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_an_early_task_that_is_lost_with_its_worker_fails_the_chord(
    worker: StartWorker, app: Celery, tmp_path: Path
) -> None:
    victim = worker(pool="prefork", conf=QUICK)
    started = tmp_path / "started"
    result = chord([tasks.hold.s(str(started), str(tmp_path / "never"))])(tasks.identity.s())
    wait_for(started.exists)
    victim.kill()
    worker(pool="threads", conf=QUICK)
    wait_for(result.ready, 20)
    assert isinstance(result.result, ChordError)
    assert "was lost" in str(result.result)


def test_a_body_that_kills_whoever_publishes_it_is_given_up(
    worker: StartWorker, app: Celery, database: Database, rows: Rows, tmp_path: Path
) -> None:
    deaths = 0
    canvas = chord([tasks.add.s(1, 1)], tasks.identity.s())
    fault = {"PGJOBS_TEST_FAULT": "before jobs.insert_job"}
    result = canvas.apply_async()
    for _ in range(6):
        victim = worker(pool="solo", conf=QUICK, env=fault)
        wait_for(lambda victim=victim: victim.process.poll() is not None, 15)
        deaths += 1
    # The first was the one whose task was the last.
    worker(pool="solo", conf=QUICK, env=fault)
    wait_for(result.ready, 20)
    assert deaths == 6
    assert "could not be published" in str(result.result)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_two_workers_race_for_the_last_task(
    pool: str, worker: StartWorker, app: Celery, rows: Rows
) -> None:
    for _ in range(2):
        # Without maintenance: nobody stands in for who finished the header.
        worker(pool=pool, concurrency=4, conf={"pgjobs_maintenance": False})
    results = [
        chord([tasks.add.s(number, 1) for _ in range(4)])(tasks.tsum.s()) for number in range(100)
    ]
    assert [result.get(timeout=30) for result in results] == [4 * n + 4 for n in range(100)]
    rows.wait_count(completed=500)
    assert rows.select("SELECT * FROM pgjobs.jobs WHERE attempt <> 1") == []
    assert rows.select("SELECT * FROM pgjobs.groups WHERE attempts > 0") == []


@pytest.mark.parametrize("setting", ["pgjobs_chord_max_age", "result_chord_expires"])
def test_a_chord_that_expires_fails(setting: str, worker: StartWorker, app: Celery) -> None:
    result = chord([tasks.add.s(1, 1), tasks.add.s(1, 1).set(countdown=600)])(tasks.tsum.s())
    worker(pool="solo", conf={setting: 1})
    wait_for(result.ready, 20)
    assert isinstance(result.result, ChordError)
    assert "was not complete after 1 s" in str(result.result)
