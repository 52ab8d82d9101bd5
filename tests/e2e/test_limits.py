"""Queues are paused and limited while real workers run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import bulk, queues
from pgjobs_celery.db.dsn import parse_url

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows
from .test_rescue import is_steady

#: A lease that makes the tests quick; a rescuer has to have lived for as long.
QUICK = {"pgjobs_lease": 1.5, "pgjobs_heartbeat_interval": 0.3}
#: No word from the database: a look each second, and nothing else.
POLLING = {"broker_transport_options": {"listen": False}}


def spans(path: Path) -> list[tuple[float, float]]:
    """From when to when each ``record_span`` ran."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["from"], line["to"]) for line in lines]


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """How many of them there were at one time, at most."""
    changes = [(begun, 1) for begun, _ in spans] + [(ended, -1) for _, ended in spans]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


class Count:
    """The most jobs of each queue that were seen to run at once."""

    def __init__(self) -> None:
        self.most: dict[str, int] = {}


@contextmanager
def counting(url: str) -> Iterator[Count]:
    """Count what runs, again and again, while the block does."""
    count, ended = Count(), threading.Event()

    def look() -> None:
        with psycopg.connect(parse_url(url), autocommit=True) as connection:
            while not ended.is_set():
                for queue, running in connection.execute(
                    "SELECT queue, count(*) FROM pgjobs.jobs WHERE state = 'executing' GROUP BY 1"
                ).fetchall():
                    count.most[queue] = max(count.most.get(queue, 0), running)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield count
    finally:
        ended.set()
        thread.join()


def test_one_worker_runs_no_more_jobs_of_a_queue_than_pgjobs_queues_says(
    worker: StartWorker, app: Celery, rows: Rows, url: str, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with counting(url) as count:
        for _ in range(12):
            tasks.record_span.apply_async((str(one), 0.05), queue="one")
            tasks.record_span_ignored.apply_async((str(other), 0.05), queue="other")
        # It consumes from both, without having been told so.
        worker(pool="threads", concurrency=5, conf={"pgjobs_queues": {"one": 1, "other": 3}})
        rows.wait_count(completed=24)
    assert count.most == {"one": 1, "other": 3}
    assert most_at_once(spans(one)) == 1
    assert most_at_once(spans(other)) == 3
    # What frees a place is seen at once.
    begun, ended = min(spans(one))[0], max(spans(one))[1]
    print(f"12 tasks of 0.05 s one by one took {ended - begun:.2f} s")
    assert ended - begun < 12 * 0.05 + 1.0


def test_a_worker_that_must_not_prefetch_claims_what_it_can_begin(
    worker: StartWorker, app: Celery, rows: Rows, url: str
) -> None:
    if app.conf.get("worker_disable_prefetch") is None:
        pytest.skip("Celery 5.6 and newer")
    with counting(url) as count:
        with bulk():
            for _ in range(300):
                tasks.ignored.delay("/dev/null")
        worker(pool="threads", concurrency=2, conf={"worker_disable_prefetch": True})
        rows.wait_count(completed=300)
    assert count.most == {"celery": 2}


def test_a_queue_of_pgjobs_queues_can_be_left_out(
    worker: StartWorker, app: Celery, rows: Rows
) -> None:
    worker(pool="solo", args=["-X", "one"], conf={"pgjobs_queues": {"one": 1, "other": 3}})
    assert tasks.add.apply_async((1, 2), queue="other").get(timeout=10) == 3
    ((queues,),) = (row.values() for row in rows.select("SELECT queues FROM pgjobs.nodes"))
    assert "other" in queues
    assert "one" not in queues


def test_all_workers_together_run_no_more_than_the_limit_and_no_less(
    worker: StartWorker, app: Celery, rows: Rows, url: str, tmp_path: Path
) -> None:
    lines, count = tmp_path / "lines", 40
    queues(app).limit("narrow", 3)
    for _ in range(2):
        worker(pool="prefork", concurrency=4, queues=["narrow"])
    with counting(url) as seen:
        for number in range(count):
            task = tasks.record_span if number % 2 else tasks.record_span_ignored
            task.apply_async((str(lines), 0.1), queue="narrow")
        rows.wait_count(completed=count, timeout=15)
    found = spans(lines)
    taken = max(ended for _, ended in found) - min(begun for begun, _ in found)
    pids = {json.loads(line)["pid"] for line in lines.read_text().splitlines()}
    used = sum(ended - begun for begun, ended in found) / taken
    print(f"{count} tasks of 0.1 s took {taken:.2f} s: {used:.1f} at once; {len(pids)} processes")
    assert seen.most == {"narrow": 3}
    assert most_at_once(found) == 3
    # A place that is free is taken at once, not when somebody looks again in a second.
    assert used > 1.5


def test_a_place_that_one_worker_frees_is_used_by_another_at_once(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    queues(app).limit("narrow", 1)
    first = worker(pool="threads", queues=["narrow"])
    release = tmp_path / "release"
    held = tasks.hold.apply_async((str(tmp_path / "runs"), str(release)), queue="narrow")
    wait_for((tmp_path / "runs").exists)
    worker(pool="threads", queues=["narrow"])
    following = tasks.tell_time.apply_async(queue="narrow")
    # The first claims nothing any more, but finishes what it has.
    first.send(15)
    wait_for(lambda: "Warm shutdown" in first.log)
    assert rows.get(following.id)["state"] == "available"
    released = time.time()
    release.touch()
    assert following.get(timeout=10) - released < 1.0
    assert held.get(timeout=10) == "released"


@pytest.mark.parametrize("conf", [{}, POLLING], ids=["listening", "polling"])
def test_a_queue_is_paused_and_resumed_and_its_limit_changed_while_it_is_busy(
    conf: dict[str, object], worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    lines, control = tmp_path / "lines", queues(app)
    lines.touch()
    worker(pool="threads", concurrency=4, queues=["busy"], conf=conf)
    with bulk():
        for _ in range(400):
            tasks.record_span.apply_async((str(lines), 0.02), queue="busy")
    wait_for(lambda: len(spans(lines)) > 20)
    control.pause("busy")
    paused = time.time()
    wait_for(lambda: "executing" not in rows.count())
    stopped = len(spans(lines))
    # What had been claimed was in the pool, or on its way there.
    assert max(begun for begun, _ in spans(lines)) < paused + 0.3
    tasks.tell_time.apply_async(queue="busy", priority=0)
    wait_for(lambda: time.time() > paused + 0.6)
    assert len(spans(lines)) == stopped
    control.limit("busy", 1)
    resumed = time.time()
    assert control.resume("busy") is True
    wait_for(lambda: len(spans(lines)) > stopped + 5)
    later = spans(lines)[stopped:]
    print(f"seen after {min(later)[0] - resumed:.3f} s")
    assert min(later)[0] - resumed < (1.3 if conf else 0.3)
    assert most_at_once(later) == 1
    control.limit("busy", None)
    wait_for(lambda: most_at_once(spans(lines)[stopped:]) == 4)


def test_what_was_set_holds_for_a_worker_that_starts_later(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    queues(app).limit("narrow", 2)
    queues(app).pause("paused")
    release = tmp_path / "release"
    for _ in range(5):
        tasks.hold.apply_async((str(tmp_path / "runs"), str(release)), queue="narrow")
        tasks.add.apply_async((1, 2), queue="paused")
    first = worker(pool="threads", concurrency=5, queues=["narrow", "paused"])
    rows.wait_count(executing=2, available=8)
    release.touch()
    assert first.stop() == 0
    worker(pool="threads", concurrency=5, queues=["narrow", "paused"])
    rows.wait_count(completed=5, available=5)


def test_a_killed_workers_places_are_free_when_its_jobs_are_rescued(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    queues(app).limit("narrow", 2)
    victim = worker(pool="threads", concurrency=4, queues=["narrow"], conf=QUICK)
    release = tmp_path / "release"
    held = [
        task.apply_async((str(tmp_path / "runs"), str(release)), queue="narrow")
        for task in (tasks.hold, tasks.hold_late)
    ]
    rows.wait_count(executing=2)
    following = tasks.tell_time.apply_async(queue="narrow")
    worker(pool="threads", concurrency=4, queues=["narrow"], conf=QUICK)
    wait_for(lambda: is_steady(rows, 2), 15)
    victim.kill()
    # One was acknowledged when it began, and is discarded; the other runs again.
    rows.wait(held[0].id, "discarded", timeout=15)
    rescued = time.time()
    assert following.get(timeout=10) - rescued < 1.0
    assert rows.wait(held[1].id, "executing")["attempt"] == 2
    release.touch()
    assert held[1].get(timeout=10) == "released"
