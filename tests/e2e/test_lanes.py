"""Rates, limits by key and fair shares, in real workers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from benchmarks.sliding import most_within
from pgjobs_celery import bulk, queues
from pgjobs_celery.db.dsn import parse_url

from ..support.proxies import Proxy
from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows
from .test_limits import POLLING, QUICK, most_at_once, spans
from .test_rescue import is_steady
from .test_shutdown import POOLS


@contextmanager
def watching_lanes(url: str) -> Iterator[dict[str, int]]:
    """The most jobs of each lane that were seen to run at once, while the block runs."""
    most: dict[str, int] = {}
    ended = threading.Event()

    def look() -> None:
        with psycopg.connect(parse_url(url), autocommit=True) as connection:
            while not ended.is_set():
                for lane, running in connection.execute(
                    "SELECT lane, count(*) FROM pgjobs.jobs"
                    # What was replaced has no message, and others run for it.
                    " WHERE state = 'executing' AND message IS NOT NULL GROUP BY 1"
                ).fetchall():
                    most[lane] = max(most.get(lane, 0), running)
                ended.wait(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("conf", [{}, POLLING], ids=["listening", "polling"])
def test_of_each_key_one_runs_at_a_time_over_all_workers(
    conf: dict[str, object], worker: StartWorker, app: Celery, rows: Rows, url: str, tmp_path: Path
) -> None:
    queues(app)["narrow"].concurrency(1, by="args.0")
    for _ in range(2):
        worker(pool="threads", concurrency=4, queues=["narrow"], conf=conf)
    paths = [tmp_path / key for key in "abc"]
    with watching_lanes(url) as most:
        with bulk():
            for _ in range(8):
                for path in paths:
                    tasks.record_span.apply_async((str(path), 0.03), queue="narrow")
        rows.wait_count(completed=24, timeout=60)
    assert set(most.values()) == {1}
    assert len(most) == 3
    for path in paths:
        assert most_at_once(spans(path)) == 1


def test_no_key_has_two_that_run_though_workers_are_killed_and_stopped(
    worker: StartWorker, app: Celery, rows: Rows, url: str, tmp_path: Path
) -> None:
    queues(app)["narrow"].concurrency(1, by="args.0")
    victim, sleeper, _ = (
        worker(pool="threads", concurrency=3, queues=["narrow"], conf=QUICK) for _ in range(3)
    )
    wait_for(lambda: is_steady(rows, 3), 30)
    paths = [tmp_path / key for key in "abcd"]
    with watching_lanes(url) as most:
        with bulk():
            for _ in range(15):
                for path in paths:
                    tasks.record_span.apply_async((str(path), 0.1), queue="narrow")
        wait_for(lambda: rows.count().get("completed", 0) >= 8, 30)
        victim.kill()
        sleeper.send(signal.SIGSTOP)
        done = rows.count().get("completed", 0)
        # The places of both are free once their leases are over.
        wait_for(lambda: rows.count().get("completed", 0) >= done + 12, 60)
        sleeper.send(signal.SIGCONT)
        wait_for(lambda: not {"available", "executing"}.intersection(rows.count()), 120)
    assert set(most.values()) == {1}, most


def test_no_key_has_two_that_run_though_claims_are_cut_off(
    worker: StartWorker, app: Celery, rows: Rows, url: str, tmp_path: Path
) -> None:
    """Some are lost on their way, of some only the answer; and one of the workers is killed."""
    queues(app)["narrow"].concurrency(1, by="args.0")
    paths = [tmp_path / key for key in "abcdef"]

    def is_over() -> bool:
        return not {"available", "executing", "retryable"}.intersection(rows.count())

    with Proxy(url) as first, Proxy(url) as second:
        through = [
            worker(pool="threads", concurrency=3, queues=["narrow"], conf=QUICK, broker=proxy.url)
            for proxy in (first, second)
        ]
        wait_for(lambda: is_steady(rows, 2), 30)
        with watching_lanes(url) as most:
            with bulk():
                for _ in range(15):
                    for path in paths:
                        tasks.record_span.apply_async((str(path), 0.02), queue="narrow")
            for number in range(4):
                cuts = first.cuts, second.cuts
                first.cut_answer("claim_lanes")
                second.cut_question("claim_lanes")
                wait_for(
                    lambda cuts=cuts: (  # type: ignore[misc]
                        (first.cuts > cuts[0] and second.cuts > cuts[1]) or is_over()
                    ),
                    60,
                )
                if number == 1:
                    through[0].kill()
                    through[0] = worker(
                        pool="threads", concurrency=3, queues=["narrow"], conf=QUICK,
                        broker=first.url,
                    )  # fmt: skip
            wait_for(is_over, 120)
        assert first.cuts
        assert second.cuts
    assert set(most.values()) == {1}, most
    for path in paths:
        assert most_at_once(spans(path)) == 1


def test_who_waits_for_a_place_is_told_when_another_worker_frees_it(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    queues(app)["narrow"].concurrency(1, by="args.0")
    # No look comes before its time: it is told, or this is over.
    conf = {"broker_transport_options": {"poll_interval": 600}}
    started, release = str(tmp_path / "started"), tmp_path / "release"
    leaving = worker(pool="threads", concurrency=1, queues=["narrow"], conf=conf)
    tasks.hold.apply_async((started, str(release)), queue="narrow")
    rows.wait_count(executing=1)
    worker(pool="threads", concurrency=1, queues=["narrow"], conf=conf)
    following = tasks.hold.apply_async((started, str(release)), queue="narrow")
    shut = "SELECT FROM pgjobs.lanes WHERE shut_until = 'infinity'"
    wait_for(lambda: rows.select(shut), 30)
    # It takes nothing more, so that the other one must.
    leaving.send(signal.SIGTERM)
    wait_for(lambda: "Warm shutdown" in leaving.log, 30)
    release.touch()
    assert following.get(timeout=30) == "released"


def test_no_second_has_more_starts_than_the_rate_of_its_queue(
    worker: StartWorker, app: Celery, rows: Rows, url: str
) -> None:
    queues(app)["slow"].rate("5/s")
    for _ in range(2):
        worker(pool="threads", concurrency=4, queues=["slow"])
    with bulk():
        for _ in range(20):
            tasks.tell_time.apply_async(queue="slow")
    rows.wait_count(completed=20, timeout=60)
    times = [
        float(row["at"])
        for row in rows.select(
            "SELECT extract(epoch FROM attempted_at) AS at FROM pgjobs.jobs ORDER BY 1"
        )
    ]
    assert most_within(times, 1.0) <= 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_leaves_tells_how_often_a_rate_held_jobs_back(
    number: int, pool: str, worker: StartWorker, app: Celery, rows: Rows, url: str
) -> None:
    """And tells it once: the looks of its last seconds as well as those before."""
    queues(app)["slow"].rate("1/h", by="args.0")
    jobs = [tasks.add.apply_async((1, number), queue="slow") for number in range(2)]
    started = worker(pool=pool, concurrency=1, queues=["slow"])
    jobs[0].get(timeout=30)
    wait_for(lambda: rows.select("SELECT FROM pgjobs.lanes WHERE shut_until > now()"), 30)
    # Every look at the lanes from now on finds the same; the service's turn comes each 5 s.
    started.stop(number)
    told = rows.select("SELECT queue, exception, count FROM pgjobs.totals WHERE kind = 'throttled'")
    assert [(row["queue"], row["exception"]) for row in told] == [("slow", "rate")]
    assert told[0]["count"] >= 1


def test_a_flood_of_one_tenant_does_not_hold_up_another(
    worker: StartWorker, app: Celery, rows: Rows, url: str
) -> None:
    """And jobs that are in line when the queue becomes fair are sorted, too."""
    with bulk():
        for number in range(300):
            tasks.add.apply_async((1, number), queue="mail")
    queues(app)["mail"].fair("args.0")
    with bulk():
        for tenant in range(2, 7):
            tasks.add.apply_async((tenant, 0), queue="mail")
    worker(pool="threads", concurrency=2, queues=["mail"])
    rows.wait_count(completed=305, timeout=60)
    order = rows.select(
        "SELECT (pgjobs.args(j) ->> 0)::int AS tenant FROM pgjobs.jobs AS j"
        " ORDER BY j.attempted_at, j.id"
    )
    tenants = [row["tenant"] for row in order]
    last = max(index for index, tenant in enumerate(tenants) if tenant > 1)
    assert last < 150, f"the last of the others was the {last}th"
