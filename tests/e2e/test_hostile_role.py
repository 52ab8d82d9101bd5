"""A role that may connect, and nothing else, stops no worker and keeps nobody waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from pgjobs_celery import aget
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.notify import (
    BELLS,
    SLEEPERS,
    SLOTS,
    bell_channel,
    result_channel,
    waiter,
    work_channel,
)

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker

POOLS = ["prefork", "threads", "solo"]

#: Far more than anything takes here that does not hang.
LONG = 20.0

WORK, RESULTS = work_channel("pgjobs"), result_channel("pgjobs")
BELL_CHANNELS = [bell_channel(WORK, bell) for bell in range(BELLS)]

Nobody = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def role(server_url: str) -> Iterator[str]:
    """A role without any right but PUBLIC's."""
    name = f"nobody_{uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'nothing'")
        yield name
        server.execute(f"DROP ROLE {name}")


@pytest.fixture
def nobody(url: str, role: str) -> Iterator[Nobody]:
    """A session of that role."""
    with psycopg.connect(
        parse_url(url), user=role, password="nothing", autocommit=True
    ) as connection:
        yield connection


def hold(nobody: Nobody, *names: str) -> None:
    """Take the locks of these names, so that nobody else can have them."""
    nobody.execute(
        "SELECT pg_advisory_lock(%s, hashtext(name)) FROM unnest(%s::text[]) AS name",
        [SLEEPERS, list(names)],
    )


def let_go(nobody: Nobody) -> None:
    nobody.execute("SELECT pg_advisory_unlock_all()")


def result_names() -> list[str]:
    return [f"{RESULTS}:{kind}{slot}" for kind in "rs" for slot in range(SLOTS)]


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_whose_locks_are_held_works_and_says_why_it_polls(
    pool: str, nobody: Nobody, worker: StartWorker, app: Celery
) -> None:
    hold(nobody, WORK, f"{WORK}celery")
    started = worker(pool=pool)
    assert [tasks.add.delay(n, 1).get(timeout=LONG) for n in range(5)] == [1, 2, 3, 4, 5]
    warning = "another session holds 2 of the advisory locks"
    wait_for(lambda: warning in started.log, LONG, message=lambda: started.log)
    assert tasks.add.apply_async((1, 2), countdown=0.1).get(timeout=LONG) == 3
    let_go(nobody)
    wait_for(lambda: "the advisory locks are free again" in started.log, LONG)
    assert tasks.add.delay(1, 2).get(timeout=LONG) == 3
    assert started.log.count(warning) == 1
    hold_in_vain = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
    wait_for(lambda: nobody.execute(hold_in_vain, [SLEEPERS, WORK]).fetchone() == (False,), LONG)
    assert started.stop() == 0


def test_a_worker_whose_locks_are_held_leaves_when_it_is_told_to(
    nobody: Nobody, worker: StartWorker
) -> None:
    hold(nobody, WORK, f"{WORK}celery")
    started = worker(pool="solo")
    wait_for(lambda: "the advisory locks" in started.log, LONG)
    assert started.stop() == 0


def test_jobs_begin_though_somebody_answers_for_workers_that_are_not_there(
    nobody: Nobody, worker: StartWorker, app: Celery
) -> None:
    """A publisher rings bells that no worker has. A worker that finds a job by its poll looks more
    often from then on."""
    worker(pool="threads", conf={"broker_transport_options": {"poll_interval": 2.0}})
    nobody.execute(
        "SELECT pg_advisory_lock_shared(%s, hashtext(name)) FROM unnest(%s::text[]) AS name",
        [SLEEPERS, [f"{channel}celery" for channel in BELL_CHANNELS]],
    )
    began = time.monotonic()
    for number in range(30):
        assert tasks.add.delay(number, 1).get(timeout=LONG) == number + 1
    # Once after a poll, and then after half a second at most, where it is not rung for.
    assert time.monotonic() - began < LONG


def test_a_wait_for_locks_that_is_queued_behind_a_worker_stops_no_other(
    url: str, role: str, worker: StartWorker, app: Celery, connection: psycopg.Connection[Any]
) -> None:
    first = worker(pool="solo", queues=["other"])
    with closing(psycopg.connect(parse_url(url), user=role, password="nothing")) as nobody:
        pid = nobody.info.backend_pid
        wait = f"SELECT pg_advisory_lock({SLEEPERS}, hashtext('{WORK}'))"
        nobody.pgconn.send_query(wait.encode())
        waits = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"
        wait_for(lambda: connection.execute(waits, [pid]).fetchone())
        worker(pool="solo")
        assert tasks.add.delay(1, 2).get(timeout=LONG) == 3
        first.stop()
        assert tasks.add.delay(3, 4).get(timeout=LONG) == 7


@pytest.mark.parametrize("wait", ["get", "aget"])
def test_who_waits_for_a_result_gets_it_though_all_locks_are_held(
    wait: str, nobody: Nobody, worker: StartWorker, app: Celery
) -> None:
    hold(nobody, *result_names())
    worker(pool="threads")
    for number in range(3):
        assert got(wait, tasks.add.delay(number, 1), LONG) == number + 1
    started = time.monotonic()
    with pytest.raises(CeleryTimeoutError):
        got(wait, app.AsyncResult(str(uuid4())), 0.5)
    assert time.monotonic() - started < LONG


def got(wait: str, result: Any, timeout: float) -> Any:
    if wait == "get":
        return result.get(timeout=timeout)
    return asyncio.run(aget(result, timeout=timeout))


# Notifications


@pytest.fixture(scope="module")
def running(module_worker: StartWorker) -> Worker:
    return module_worker(pool="threads")


@pytest.fixture(scope="module")
def shouting(module_url: str, role: str, running: Worker) -> Iterator[Nobody]:
    tasks.app.conf.update(broker_url=module_url, result_backend=module_url)
    with psycopg.connect(
        parse_url(module_url), user=role, password="nothing", autocommit=True
    ) as connection:
        yield connection


@pytest.mark.parametrize("wait", ["get", "aget"])
def test_a_notification_that_says_nothing_harms_nobody(
    wait: str, nobody: Nobody, worker: StartWorker, app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    worker(pool="threads")
    result = tasks.sleep.delay(1.0)
    waits = "SELECT 1 FROM pg_locks WHERE classid = %s AND objid = hashtext(%s)::oid"
    key = f"{RESULTS}{waiter(result.id)}"

    def shout() -> None:
        wait_for(lambda: nobody.execute(waits, [SLEEPERS, key]).fetchone())
        for _ in range(3):
            nobody.execute(f"NOTIFY {RESULTS}")
            nobody.execute(f"NOTIFY {WORK}")

    shouter = threading.Thread(target=shout)
    shouter.start()
    assert got(wait, result, LONG) == 1.0
    shouter.join()
    assert not [record for record in caplog.records if record.exc_info]


#: What somebody may say: anything, and what begins as ours does.
PAYLOADS = st.lists(
    st.tuples(
        st.sampled_from(["", *"jbmdrscqeo", "jcelery", "mcelery", "o1:celery", "o1:", "r", "x"]),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50),
    ).map("".join),
    min_size=1,
    max_size=8,
)


@given(PAYLOADS)
@settings(max_examples=40, deadline=None)
def test_whatever_is_notified_workers_and_waiters_go_on(
    shouting: Nobody, running: Worker, payloads: list[str]
) -> None:
    result = tasks.add.delay(1, 2)
    for payload in payloads:
        for channel in (WORK, RESULTS, *BELL_CHANNELS):
            shouting.execute("SELECT pg_notify(%s, %s)", [channel, payload])
    assert result.get(timeout=LONG) == 3
    assert asyncio.run(aget(tasks.add.delay(3, 4), timeout=LONG)) == 7
    assert "Traceback" not in running.log
    assert "LISTEN had died" not in running.log
