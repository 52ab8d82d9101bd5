"""Few of the workers that wait for a queue are told of a job; whatever these are doing, it begins.

No worker looks of itself here: a job that nobody begins stays where it is.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from pgjobs_celery.db.notify import BELLS, SLEEPERS, bell_channel, work_channel

from ..conftest import Connection
from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Rows

#: No poll comes within a test.
QUIET = {"broker_transport_options": {"poll_interval": 300.0}}
#: How many jobs are published, one at a time.
JOBS = 30


@pytest.fixture
def bells(connection: Connection) -> Callable[[], int]:
    """Asked for how many sessions have hung a bell for the queue ``celery``."""
    keys = [bell_channel(work_channel("pgjobs"), bell) + "celery" for bell in range(BELLS)]

    def count() -> int:
        (row,) = connection.execute(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "
            "WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database() "
            "AND l.classid = %s AND l.objid::bigint IN ("
            "SELECT hashtext(k)::bigint & 4294967295 FROM unnest(%s::text[]) AS k)",
            [SLEEPERS, keys],
        ).fetchall()
        return int(row["count"])

    return count


def start_workers(
    worker: StartWorker, bells: Callable[[], int], count: int, concurrency: int = 1
) -> list[Worker]:
    """Workers that wait for a job."""
    workers = [worker(concurrency=concurrency, conf=QUIET, wait=False) for _ in range(count)]
    wait_for(lambda: bells() == count, 60)
    return workers


@contextmanager
def held_up(folder: Path, count: int) -> Iterator[None]:
    """So many workers run a task until the block ends."""
    release = folder / "release"
    try:
        for number in range(count):
            begun = folder / f"begun{number}"
            tasks.hold.delay(str(begun), str(release))
            wait_for(begun.exists)
        yield
    finally:
        release.touch()


def publish_singly(rows: Rows) -> None:
    """Publish jobs, each once the one before has finished."""
    for number in range(JOBS):
        rows.wait(tasks.identity.delay(number).id, "completed", timeout=10)


def test_each_job_begins_at_once_while_most_workers_are_busy(
    app: Celery, worker: StartWorker, rows: Rows, bells: Callable[[], int], tmp_path: Path
):
    start_workers(worker, bells, 4)
    with held_up(tmp_path, 3):
        publish_singly(rows)
        # Those that were told in vain have taken their bells down.
        assert bells() < 4
    wait_for(lambda: bells() == 4)


def test_each_job_begins_at_once_while_a_worker_is_stopped(
    app: Celery, worker: StartWorker, rows: Rows, bells: Callable[[], int]
):
    stopped, *_ = start_workers(worker, bells, 4)
    stopped.send(signal.SIGSTOP)
    try:
        publish_singly(rows)
    finally:
        stopped.send(signal.SIGCONT)


def test_where_those_that_were_told_are_stopped_another_finds_the_jobs_before_long(
    app: Celery, worker: StartWorker, rows: Rows, bells: Callable[[], int]
):
    """The first by its poll; and from then on it looks twice a second."""
    conf = {"broker_transport_options": {"poll_interval": 2.0}}
    workers = [worker(concurrency=1, conf=conf) for _ in range(4)]
    wait_for(lambda: bells() == 4, 60)
    for each in workers[1:]:
        each.send(signal.SIGSTOP)
    try:
        publish_singly(rows)
    finally:
        for each in workers[1:]:
            each.send(signal.SIGCONT)


def test_workers_that_leave_take_their_bells_down(
    app: Celery, worker: StartWorker, rows: Rows, bells: Callable[[], int], tmp_path: Path
):
    """They wait for their tasks, perhaps for long, and consume from no queue any more.

    They have room for another task each, or would have been told in vain, and silent before.
    """
    leaving = start_workers(worker, bells, 3, concurrency=2)
    with held_up(tmp_path, 3):
        for each in leaving:
            each.send(signal.SIGTERM)
        wait_for(lambda: bells() == 0)
        worker(concurrency=1, conf=QUIET)
        publish_singly(rows)


def test_each_job_begins_at_once_while_others_have_no_place_for_it(
    app: Celery, worker: StartWorker, rows: Rows, bells: Callable[[], int], tmp_path: Path
):
    """They have room, but each may run one job of the queue."""
    limited = {**QUIET, "pgjobs_queues": {"celery": {"concurrency": 1}}}
    for _ in range(4):
        worker(concurrency=2, conf=limited, wait=False)
    wait_for(lambda: bells() == 4, 60)
    with held_up(tmp_path, 3):
        publish_singly(rows)


def test_several_jobs_that_come_at_once_begin_at_once(
    app: Celery, worker: StartWorker, rows: Rows, bells: Callable[[], int], tmp_path: Path
):
    """The same worker may be told of two of them, and can begin one."""
    start_workers(worker, bells, 4)
    for number in range(JOBS // 3):
        release = tmp_path / f"release{number}"
        begun = [tmp_path / f"begun{number}-{each}" for each in range(4)]
        for path in begun:
            tasks.hold.delay(str(path), str(release))
        for path in begun:
            wait_for(path.exists)
        release.touch()
        wait_for(lambda: rows.count() == {"completed": 4 * (number + 1)})  # noqa: B023


def test_a_job_for_busy_workers_begins_when_one_of_them_is_free(
    app: Celery, worker: StartWorker, rows: Rows, bells: Callable[[], int], tmp_path: Path
):
    start_workers(worker, bells, 2)
    with held_up(tmp_path, 2):
        waiting = [tasks.identity.delay(number) for number in range(5)]
        time.sleep(0.2)  # nothing can be seen of what they must not do
        assert rows.count()["available"] == 5
    for result in waiting:
        rows.wait(result.id, "completed")


def test_a_solo_worker_has_no_bell_for_its_task_holds_up_its_loop(
    app: Celery, worker: StartWorker, rows: Rows, bells: Callable[[], int], tmp_path: Path
):
    for _ in range(3):
        worker(pool="solo", concurrency=1, conf=QUIET)
    with held_up(tmp_path, 2):
        assert bells() == 0
        publish_singly(rows)
