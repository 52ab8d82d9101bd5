"""``self.transaction()`` and steps on gevent and eventlet: many blocks in one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import chord

from pgjobs_celery import bulk

from ..support.callers import DRIVERS, KINDS
from ..support.ledgers import Ledger
from ..support.proxies import Proxy
from ..support.waiting import wait_for
from . import effects
from .conftest import StartWorker, Worker
from .rows import Rows
from .test_effects import AFTER, AGAIN, CUTS, canvas
from .test_greenlets import POOLS
from .test_rescue import QUICK

#: How many blocks stand side by side.
COUNT = 8


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", autouse=True)
def running(module_worker: StartWorker, pool: str) -> Worker:
    """A worker in the pool, for a queue of its own."""
    return module_worker(
        pool=pool, concurrency=COUNT + 2, queues=[pool, "celery"], app="tests.e2e.effects"
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "async" not in kind])
def test_rows_outcome_and_follower_come_together_over_every_connection(
    kind: str, pool: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    result = effects.book_anyhow.apply_async((kind,), {"fails": True}, queue=pool)
    row = rows.wait(result.id)
    assert (row["state"], row["attempt"]) == ("completed", 2), row["errors"]
    assert (result.get(timeout=10), ledger.notes(result.id)) == (kind, [(2, kind)])
    assert ledger.followers(result.id) == 1


@pytest.mark.parametrize("kind", [kind for kind in DRIVERS if "async" in kind])
def test_a_connection_of_asyncio_is_refused(kind: str, pool: str, effects_app: Any, rows: Rows):
    """It would wait for the loop that it holds up."""
    result = effects.book_anyhow.apply_async((kind,), queue=pool, max_attempts=1)
    row = rows.wait(result.id)
    assert (row["state"], row["errors"][0]["type"]) == ("discarded", "CannotJoin")
    assert pool in row["errors"][0]["message"]


@pytest.mark.parametrize("how", [how for how in AGAIN if not how.startswith("kill")])
def test_an_attempt_that_fails_in_the_block_leaves_nothing(
    how: str, pool: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    result = effects.book.apply_async((how,), queue=pool)
    row = rows.wait(result.id)
    assert row["state"] == "completed", row["errors"]
    attempt = 1 if how == "snooze" else 2
    assert ledger.notes(result.id) in ([(attempt, how)], [(row["attempt"], how)])
    assert ledger.followers(result.id) == 1


@pytest.mark.parametrize("how", [how for how in AFTER if not how.startswith("kill")])
def test_nothing_after_the_commit_changes_the_outcome(
    how: str, pool: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    result = effects.book.apply_async((how,), queue=pool)
    rows.wait(result.id)
    # The worker has heard of its end by the time that it ends another.
    rows.wait(effects.follow.apply_async(queue=pool).id)
    row = rows.get(result.id)
    assert (row["state"], row["attempt"], row["errors"]) == ("completed", 1, [])
    assert (ledger.notes(result.id), ledger.followers(result.id)) == ([(1, how)], 1)


def test_blocks_stand_side_by_side_and_do_not_mix(
    pool: str, effects_app: Any, rows: Rows, ledger: Ledger, tmp_path: Path
):
    begun, release = tmp_path / "begun", tmp_path / "release"
    results = [
        effects.book_beside.apply_async((str(begun), str(release), n % 2 == 1), queue=pool)
        for n in range(COUNT)
    ]
    wait_for(lambda: begun.exists() and begun.read_text().count("\n") == COUNT)
    assert rows.count()["executing"] == COUNT
    release.touch()
    for number, result in enumerate(results):
        assert result.get(timeout=20) == result.id
        attempt = 1 + number % 2
        assert ledger.notes(result.id) == [(attempt, "beside")]
        assert ledger.followers(result.id) == 1
        assert rows.get(result.id)["attempt"] == attempt


def test_successors_are_published_in_the_block(pool: str, effects_app: Any, rows: Rows):
    assert canvas(effects.keep, pool).apply_async().get(timeout=30) == 5
    header = [effects.keep.s(n).set(queue=pool) for n in range(5)]
    assert chord(header, effects.follow.s()).apply_async().get(timeout=30) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cut", CUTS)
def test_a_commit_that_is_cut_off_is_resolved(
    cut: str, pool: str, url: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    inflict, attempt = CUTS[cut]
    with Proxy(url) as proxy:
        inflict(proxy)
        result = effects.book.apply_async(("", proxy.url), queue=pool)
        row = rows.wait(result.id)
        wait_for(lambda: proxy.cuts == 1)  # the row may be there before
    assert (row["state"], row["attempt"]) == ("completed", attempt), row["errors"]
    assert (ledger.notes(result.id), ledger.followers(result.id)) == ([(attempt, "")], 1)


def test_a_job_that_is_terminated_in_the_block_leaves_nothing(
    pool: str, effects_app: Any, rows: Rows, ledger: Ledger, tmp_path: Path
):
    begun = tmp_path / "begun"
    result = effects.book_beside.apply_async((str(begun), str(tmp_path / "never")), queue=pool)
    wait_for(begun.exists)
    assert result.revoke(terminate=True)
    assert rows.wait(result.id)["state"] == "cancelled"
    # Its greenlet is gone, and with it the block: it holds no lock, and no connection.
    wait_for(lambda: not rows.select(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = %s",
        "idle in transaction",
    ))  # fmt: skip
    assert (ledger.notes(result.id), ledger.followers(result.id)) == ([], 0)


def test_a_time_limit_in_the_block_leaves_nothing(
    pool: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    if pool == "eventlet":
        pytest.skip("has no time limits")
    result = effects.limited_greenlet.apply_async(queue=pool)
    row = rows.wait(result.id)
    assert (row["state"], row["errors"][0]["type"]) == ("discarded", "TimeLimitExceeded")
    assert ledger.notes(result.id) == []


def test_a_worker_that_is_killed_again_and_again_books_once(
    pool: str, module_worker: StartWorker, effects_app: Any, rows: Rows, ledger: Ledger
):
    queue = f"killed-{pool}"

    def start() -> Worker:
        return module_worker(
            pool=pool, concurrency=10, queues=[queue], app="tests.e2e.effects", conf=QUICK
        )

    def count(condition: str) -> int:
        found = rows.select(
            f"SELECT count(*) AS n FROM pgjobs.jobs WHERE queue = %s AND {condition}", queue
        )
        return int(found[0]["n"])

    def done() -> int:
        return count("state = 'completed'")

    worker = start()
    with bulk():
        results = [effects.book_often.apply_async(queue=queue) for _ in range(200)]
    for share in (20, 60, 100):
        wait_for(lambda share=share: done() >= share)
        worker.kill()
        worker = start()
    wait_for(lambda: done() == len(results), 60)
    assert [ledger.followers(result.id) for result in results] == [1] * len(results)
    booked = [ledger.notes(result.id) for result in results]
    assert [len(each) for each in booked] == [1] * len(results)
    # The row has the token that its step remembers, whichever run has written it.
    assert [each[0][1] for each in booked] == [result.get(timeout=10) for result in results]
    assert count("attempt > 1") > 0
    worker.stop()
