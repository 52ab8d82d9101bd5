"""Jobs of a task, with a tag or of a key are paused and resumed while real workers run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from celery import Celery
from celery.result import AsyncResult

from pgjobs_celery import bulk, flows, queues
from pgjobs_celery.control.acting import begin_action
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.claims import Pending
from pgjobs_celery.job.flow import lane_text
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.node.parking import Parking

from ..conftest import Connection
from ..support.rows import alive, put
from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows
from .test_limits import POLLING, QUICK, spans

PARKED = (
    "SELECT count(*) AS n FROM pgjobs.jobs WHERE starts_with(lane, 'pause/') AND claimed_by IS NULL"
    " AND finished_at IS NULL"
)


def parked(rows: Rows) -> int:
    return int(rows.select(PARKED)[0]["n"])


def park_one(rows: Rows) -> AsyncResult[float]:
    """The first job that a worker parks: it may run some before it knows of the pause."""
    while True:
        job = tasks.tell_time.delay()
        wait_for(partial(is_decided, rows, job.id), 20)
        if rows.get(job.id)["lane"]:
            return job


def is_decided(rows: Rows, id: str) -> bool:
    row = rows.get(id)
    return bool(row["lane"] or row["finished_at"])


def exceeds(rows: Rows, count: int) -> bool:
    return parked(rows) > count


@pytest.mark.parametrize("conf", [{}, POLLING], ids=["listening", "polling"])
def test_a_task_is_paused_and_resumed_while_others_go_on(
    conf: dict[str, object], worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    lines, control = tmp_path / "lines", flows(app)
    lines.touch()
    control.pause(task=tasks.record_span.name)
    worker(pool="threads", concurrency=4, queues=["busy"], conf=conf)
    with bulk():
        for number in range(60):
            tasks.record_span.apply_async((str(lines), 0.001), queue="busy", priority=number % 3)
    other = tasks.tell_time.apply_async(queue="busy", priority=255)
    other.get(timeout=15)
    wait_for(lambda: parked(rows) == 60, 15)
    assert spans(lines) == []
    before = rows.select(
        "SELECT id, seq, priority & 255 AS rank, attempt FROM pgjobs.jobs"
        " WHERE lane IS NOT NULL ORDER BY 1"
    )
    assert {row["attempt"] for row in before} == {0}
    assert control.resume(task=tasks.record_span.name) is True
    rows.wait_count(timeout=20, completed=61)
    after = rows.select(
        "SELECT id, seq, priority AS rank, attempt FROM pgjobs.jobs WHERE id = ANY (%s) ORDER BY 1",
        [row["id"] for row in before],
    )
    assert [{**row, "attempt": 0} for row in after] == before
    assert {row["attempt"] for row in after} == {1}


def test_a_pause_by_tag_and_one_by_key_keep_only_their_jobs(
    worker: StartWorker, app: Celery, rows: Rows, connection: Connection
) -> None:
    control = flows(app)
    queues(app)["mail"].fair("args.0")
    control.pause(key=7, queue="mail")
    queues(app)["mail"].unfair()
    jobs = [tasks.tell_time.apply_async(queue="mail") for _ in range(3)]
    # As a publisher lanes them in a queue that is fair.
    for job, key in zip(jobs, ("7", "8", None), strict=True):
        connection.execute(
            "UPDATE pgjobs.jobs SET tags = %s WHERE task_id = %s", [[key or "x"], job.id]
        )
    control.pause(tag="8")
    worker(pool="threads", queues=["mail"])
    jobs[2].get(timeout=15)
    wait_for(lambda: rows.get(jobs[1].id)["lane"] == "pause/tag/8")
    jobs[0].get(timeout=15)  # a tag is not a key
    assert control.resume(tag="8")
    jobs[1].get(timeout=15)


def test_a_pause_until_a_time_is_ended_by_a_worker_also_by_one_that_starts_later(
    worker: StartWorker, app: Celery, rows: Rows
) -> None:
    control = flows(app)
    names, control = ("celery", "still"), flows(app)
    one = worker(pool="threads", queues=list(names))
    for again in (False, True):
        control.pause(task=tasks.tell_time.name, until=3600)
        queues(app).pause("still", until=3600)
        still = tasks.add.apply_async((1, 2), queue="still")
        first = park_one(rows)
        if again:
            one.stop()
        control.pause(task=tasks.tell_time.name, until=0.5)
        queues(app).pause("still", until=0.5)
        if again:
            assert rows.get(first.id)["state"] == rows.get(still.id)["state"] == "available"
            worker(pool="threads", queues=list(names))
        assert first.get(timeout=20)
        assert still.get(timeout=20) == 3
        wait_for(lambda: rows.select("SELECT FROM pgjobs.pauses") == [])
        assert queues(app).get("still").is_paused is False


def test_a_worker_that_is_killed_while_it_parks_loses_nothing(
    worker: StartWorker, app: Celery, rows: Rows, connection: Connection
) -> None:
    """Neither a job nor an attempt, though its tasks are acknowledged when they begin."""
    control, count = flows(app), 1500
    control.pause(task=tasks.ignored.name)
    with bulk():
        for _ in range(count):
            tasks.ignored.apply_async(("/dev/null",), queue="busy")
    for _ in range(3):
        victim = worker(pool="threads", concurrency=8, queues=["busy"], conf=QUICK)
        has_more = partial(exceeds, rows, parked(rows))
        wait_for(has_more, 40)
        victim.kill()
    last = worker(pool="threads", concurrency=8, queues=["busy"], conf=QUICK)
    wait_for(lambda: parked(rows) == count, 60)
    assert rows.select("SELECT DISTINCT attempt FROM pgjobs.jobs") == [{"attempt": 0}]
    # Killed between two steps of the resumption: another worker goes on.
    connection.execute("UPDATE pgjobs.pauses SET until = now()")
    wait_for(lambda: parked(rows) < count, 40)
    last.kill()
    worker(pool="threads", concurrency=8, queues=["busy"], conf=QUICK)
    wait_for(lambda: parked(rows) == 0, 60)
    # Those of the killed worker are held until its lease has run out.
    wait_for(lambda: set(rows.count()) <= {"completed", "discarded"}, 60)
    ended = rows.count()
    # What the victim had begun, or was about to, may be discarded: it is acknowledged early.
    assert ended.get("completed", 0) + ended.get("discarded", 0) == count
    assert ended.get("discarded", 0) <= count // 10


def test_one_tenant_of_a_fair_queue_is_paused_and_the_others_go_on(
    worker: StartWorker, app: Celery, rows: Rows
) -> None:
    control = flows(app)
    queues(app)["mail"].fair("args.0")
    control.pause(key=7, queue="mail")
    paused = [tasks.add.apply_async((7, number), queue="mail") for number in range(5)]
    others = [tasks.add.apply_async((8, number), queue="mail") for number in range(5)]
    worker(pool="threads", concurrency=2, queues=["mail"])
    assert [each.get(timeout=30) for each in others] == [8, 9, 10, 11, 12]
    wait_for(lambda: parked(rows) == 5, 30)
    lanes = {rows.get(each.id)["lane"] for each in paused}
    assert lanes == {lane_text(["pause/key/mail=7"], "7")}
    assert control.resume(key=7, queue="mail")
    assert [each.get(timeout=30) for each in paused] == [7, 8, 9, 10, 11]
    assert {rows.get(each.id)["attempt"] for each in paused} == {1}


def test_a_key_of_a_lane_is_parked_and_goes_back_to_its_lane(
    database: Database, connection: Connection
) -> None:
    node = UUID(int=1)
    alive(database, node)
    put(database, "a", "b", queue="mail")
    claims = database.claims.turn(node, Pending(), [Bucket("mail")], 2)
    # As they are where they come out of a lane.
    lane = lane_text(["rate/queue/mail=8"], "7")
    connection.execute(
        "UPDATE pgjobs.jobs SET lane = %s, priority = priority + 256 WHERE task_id = 'a'", [lane]
    )
    database.rules.pause_jobs("key", "7", "mail", None, None, begin_action("pause_jobs"))
    parking = Parking()
    parking.is_needed = database.limits.look_at_limits().has_pauses
    assert parking.is_needed
    with parking.together(database):
        turn = parking.park(database, node, claims)
    assert [claim.id for claim in turn.claims] == [claims.claims[1].id]
    assert parking.has_parked() is True
    assert parking.has_parked() is False
    rows = connection.execute("SELECT lane, state, attempt FROM pgjobs.jobs ORDER BY id").fetchall()
    assert rows[0] == {
        "lane": lane_text(["pause/key/mail=7", "rate/queue/mail=8"], "7"),
        "state": "available",
        "attempt": 0,
    }
    assert rows[1]["lane"] is None
