"""Queues are paused and limited for all workers together, in the claim and exactly."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.db import notify
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.claims import Pending
from pgjobs_celery.job.outcome import completed, released
from pgjobs_celery.job.rows import Bucket, Claim, Slots
from tests.conftest import Connection
from tests.support.rows import put, states
from tests.support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("living_nodes")

A, B = UUID(int=1), UUID(int=2)


def claim(
    database: Database, count: int = 10, node: UUID = A, queue: str = "q", knows: bool = True
) -> list[Claim]:
    """Claim from a queue of which the node knows that it is limited, or does not."""
    limited = [queue] if knows else []
    return database.claims.turn(node, Pending(), [Bucket(queue)], count, limited=limited).claims


def finish(database: Database, *claims: Claim, node: UUID = A) -> None:
    outcomes = [completed(claim) for claim in claims]
    assert database.claims.settle_jobs(node, outcomes) == []


def put_many(database: Database, count: int, queue: str = "q") -> None:
    put(database, *(f"{queue}{number}" for number in range(count)), queue=queue)


# -- pause ---------------------------------------------------------------------------------------


def test_nothing_is_claimed_from_a_paused_queue_until_it_is_resumed(database):
    put_many(database, 3)
    put_many(database, 2, "other")
    database.limits.pause_queue("q")
    both = [Bucket("q"), Bucket("other")]
    claims, _ = database.claims.claim_jobs(A, "n", both, 10)
    assert [claim.queue for claim in claims] == ["other", "other"]
    assert database.limits.resume_queue("q") is True
    assert len(claim(database)) == 3
    assert database.limits.resume_queue("q") is False


def test_a_queue_that_is_paused_twice_has_been_since_the_first_time(database):
    database.limits.pause_queue("q")
    since = database.limits.get_limits("q").paused_at
    database.limits.pause_queue("q")
    assert database.limits.get_limits("q").paused_at == since


@pytest.mark.parametrize("change", ["pause", "limit"])
def test_a_change_waits_for_the_claims_that_began_before_it(database, connection, change):
    """So that nothing is claimed, or is not counted, once it has returned."""
    put_many(database, 3)
    with (
        psycopg.connect(database.conninfo) as slow,
        ThreadPoolExecutor(1) as pool,
    ):
        slow.execute("SELECT FROM pgjobs.nodes WHERE node = %s FOR KEY SHARE", (A,))
        slow.execute(
            "UPDATE pgjobs.jobs SET state = 'executing', attempt = 1, claimed_by = %s"
            " WHERE task_id = 'q0'",
            (A,),
        )
        if change == "pause":
            changed = pool.submit(database.limits.pause_queue, "q")
        else:
            changed = pool.submit(database.limits.limit_queue, "q", 2)
        wait_for(lambda: locks_waited_for(connection) == 1)
        assert not changed.done()
        slow.commit()
        changed.result(timeout=5)
    assert len(claim(database)) == (0 if change == "pause" else 1)


def locks_waited_for(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) AS n FROM pg_locks WHERE NOT granted").fetchone()
    assert row is not None
    return int(row["n"])


# -- limit ---------------------------------------------------------------------------------------


def test_no_more_jobs_of_a_limited_queue_run_than_it_allows(database, connection):
    put_many(database, 8)
    database.limits.limit_queue("q", 3)
    first = claim(database)
    assert [each.id for each in first] == [
        row["id"] for row in connection.execute("SELECT id FROM pgjobs.jobs ORDER BY seq LIMIT 3")
    ]
    assert claim(database, node=B) == []
    finish(database, first[0])
    assert len(claim(database, node=B)) == 1
    finish(database, *first[1:])
    assert len(claim(database)) == 2
    assert Counter(states(connection).values()) == {"completed": 3, "executing": 3, "available": 2}


def test_a_claim_that_does_not_know_of_a_limit_takes_nothing(database):
    put_many(database, 3)
    database.limits.limit_queue("q", 2)
    assert claim(database, knows=False) == []
    assert len(claim(database)) == 2


def test_a_claim_that_does_not_know_that_a_limit_is_gone_takes_what_there_is(database):
    put_many(database, 5)
    database.limits.limit_queue("q", 2)
    database.limits.limit_queue("q", None)
    assert len(claim(database)) == 5


def test_a_limit_of_nothing_lets_nothing_run(database):
    put_many(database, 1)
    database.limits.limit_queue("q", 0)
    assert claim(database) == []


def test_what_runs_when_a_queue_gets_its_limit_counts(database):
    put_many(database, 8)
    before = claim(database, 2, knows=False)
    database.limits.limit_queue("q", 3)
    assert len(claim(database)) == 1
    assert claim(database) == []
    finish(database, *before)
    assert len(claim(database)) == 2


def test_a_lower_limit_waits_until_so_many_have_ended(database):
    put_many(database, 8)
    database.limits.limit_queue("q", 4)
    running = claim(database)
    database.limits.limit_queue("q", 2)
    for each in running[:2]:
        finish(database, each)
        assert claim(database) == []
    finish(database, running[2])
    assert len(claim(database)) == 1


@pytest.mark.parametrize("end", ["released", "by hand", "rescued", "deleted", "moved"])
def test_a_place_is_free_however_its_job_has_ended(database, connection, end):
    put_many(database, 2)
    database.limits.limit_queue("q", 1)
    (job,) = claim(database, node=B)
    if end == "released":
        database.claims.settle_jobs(B, [released(job)])
        assert [each.id for each in claim(database)] == [job.id]
        return
    if end == "by hand":
        connection.execute(
            "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now(), claimed_by = NULL"
            " WHERE id = %s",
            (job.id,),
        )
    elif end == "rescued":
        connection.execute(
            "UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '2 hours' WHERE node = %s",
            (B,),
        )
        database.claims.rescue_jobs()
    elif end == "deleted":
        connection.execute("DELETE FROM pgjobs.jobs WHERE id = %s", (job.id,))
    else:
        connection.execute("UPDATE pgjobs.jobs SET queue = 'other' WHERE id = %s", (job.id,))
    assert len(claim(database)) == 1
    assert claim(database) == []


def test_a_claim_says_how_many_places_there_were(database):
    put_many(database, 5)
    database.limits.limit_queue("q", 3)

    def look(outcomes: list[Any], limit: int) -> tuple[list[Claim], dict[str, Slots]]:
        pending = Pending(outcomes=outcomes)
        known = ["q", "unlimited"]
        turn = database.claims.turn(A, pending, [Bucket("q")], limit, limited=known)
        assert turn.lost == []
        return turn.claims, turn.places

    first, places = look([], 2)
    assert places == {"q": Slots(3, 3)}
    second, places = look([], 2)
    assert places == {"q": Slots(1, 1)}
    assert (len(first), len(second)) == (2, 1)
    _, places = look([completed(each) for each in first], 1)
    assert places == {"q": Slots(2, 0)}


def test_priorities_hold_within_a_limited_queue(database):
    put(database, "last", queue="q", priority=9)
    put(database, "first", "second", queue="q", priority=0)
    database.limits.limit_queue("q", 2)
    assert [each.priority for each in claim(database)] == [0, 0]


def test_other_queues_fill_what_a_limited_one_leaves(database):
    put_many(database, 5)
    put_many(database, 5, "other")
    database.limits.limit_queue("q", 1)
    both = [Bucket("q"), Bucket("other")]
    turn = database.claims.turn(A, Pending(), both, 4, limited=["q"])
    assert [each.queue for each in turn.claims] == ["q", "other", "other", "other"]


def test_a_bucket_gives_no_more_than_its_places(database):
    put_many(database, 5)
    claims, _ = database.claims.claim_jobs(A, "n", [Bucket("q", places=2)], 10)
    assert len(claims) == 2


def test_who_waits_for_a_full_queue_is_woken_when_it_is_not_any_more(database):
    put_many(database, 2)
    database.limits.limit_queue("q", 2)
    first, second = claim(database)
    listener = database.listen_for_work()
    listener.announce(["q"])

    def finish_and_look(job: Claim) -> set[str]:
        outcomes = [completed(job)]
        database.claims.turn(A, Pending(outcomes=outcomes, freed=["q"]))
        return listener.wait(0.2)

    assert finish_and_look(first) == {f"{notify.BACK}q"}
    # It was not full: nobody was refused.
    assert finish_and_look(second) == set()
    listener.close()


def test_every_worker_hears_of_a_resumed_queue_and_of_a_new_limit(database):
    listener = database.listen_for_work()
    listener.announce([""])
    database.limits.pause_queue("q")
    assert listener.wait(0.1) == set()
    database.limits.resume_queue("q")
    assert listener.wait(10) == {notify.QUEUE}
    database.limits.limit_queue("q", 2)
    assert listener.wait(10) == {notify.QUEUE}
    listener.close()


def test_what_was_set_outlives_the_queue(database):
    database.limits.limit_queue("q", 2)
    database.limits.pause_queue("q")
    database.routes.declare_queue("q", auto_delete=True, message_ttl=5.0)
    database.routes.delete_queue("q")
    row = database.limits.get_limits("q")
    assert (row.name, row.concurrency, row.paused_at is not None) == ("q", 2, True)


def test_the_list_is_of_what_was_declared_to_stay_and_what_is_set(database):
    database.routes.declare_queue("declared")
    database.routes.declare_queue("reply", owner=A)
    database.routes.declare_queue("passing", expires_after=60.0)
    database.limits.limit_queue("limited", 2)
    database.limits.limit_queue("no more", 2)
    database.limits.limit_queue("no more", None)
    assert [(row.name, row.concurrency) for row in database.limits.list_queues()] == [
        ("declared", None),
        ("limited", 2),
    ]
    assert database.limits.look_at_limits().shared == {"limited": 2}


def test_a_claim_in_a_transaction_of_a_new_connection_locks_in_the_order_of_others(database):
    """While a pause is known, claims are. To prepare all of its statements first locked the nodes
    before the limits, and a change of limits locks them the other way round."""
    put(database, "a", queue="q")
    database.limits.limit_queue("q", 5)
    new = Database(database.conninfo, Options())

    def claim() -> list[Claim]:
        with new.transaction():
            return new.claims.turn(A, Pending(), [Bucket("q")], 1, limited=["q"]).claims

    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(database.conninfo) as changing,
        psycopg.connect(database.conninfo, autocommit=True) as watching,
    ):
        changing.execute("SELECT FROM pgjobs.limits WHERE queue = 'q' FOR UPDATE")
        claiming = pool.submit(claim)
        waits = (
            "SELECT FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        wait_for(lambda: watching.execute(waits).fetchall(), 20)
        changing.execute("LOCK TABLE pgjobs.nodes IN EXCLUSIVE MODE NOWAIT")
        changing.commit()
        assert len(claiming.result(timeout=20)) == 1
    new.close()


def test_a_connection_that_is_lost_by_a_wake_up_in_a_transaction_does_not_pass_for_a_commit(
    database, connection, monkeypatch
):
    """While a pause is known, what a turn writes is committed after its wake-ups."""
    put(database, "a", queue="q")
    database.limits.limit_queue("q", 1)
    turn = database.claims.turn(A, Pending(), [Bucket("q")], 1, limited=["q"])
    (held,) = turn.claims
    wake = database.wake

    def cut(*args: Any) -> Any:
        with database.connection() as own:
            connection.execute(
                "SELECT pg_terminate_backend(%s, 5000)", [own.psycopg.info.backend_pid]
            )
        return wake(*args)

    monkeypatch.setattr(database, "wake", cut)
    pending = Pending(outcomes=[completed(held)], freed=["q"])
    with pytest.raises(psycopg.OperationalError), database.transaction():
        database.claims.turn(A, pending)
    assert states(connection) == {"a": "executing"}


# -- races ---------------------------------------------------------------------------------------


class Race:
    """Workers that claim from limited queues and finish, and somebody who counts meanwhile."""

    def __init__(self, conninfo: str, limits: dict[str, int]) -> None:
        self.conninfo = conninfo
        self.limits = limits
        self.ended = threading.Event()
        self.finished: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def work(self, number: int, jobs: int) -> None:
        node = UUID(int=number)
        queues = sorted(self.limits, reverse=bool(number % 2))
        database = Database(self.conninfo, Options())
        held: list[Claim] = []
        while sum(self.finished.values()) < jobs:
            done, held = held[:1], held[1:]
            outcomes = [completed(each) for each in done]
            buckets = [Bucket(queue) for queue in queues]
            turn = database.claims.turn(
                node, Pending(outcomes=outcomes), buckets, 2, limited=queues
            )
            assert turn.lost == []
            self.finished.update(each.queue for each in done)
            held += turn.claims
        database.claims.settle_jobs(node, [completed(each) for each in held])
        database.close()

    def count(self) -> None:
        """Each look is at one snapshot."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            while not self.ended.is_set():
                rows = connection.execute(
                    "SELECT queue, count(*) FROM pgjobs.jobs WHERE state = 'executing' GROUP BY 1"
                ).fetchall()
                for queue, running in rows:
                    self.most[queue] = max(self.most[queue], running)

    def run(self, workers: int, jobs: int) -> None:
        with ThreadPoolExecutor(workers + 1) as pool:
            counting = pool.submit(self.count)
            working = [pool.submit(self.work, number + 1, jobs) for number in range(workers)]
            try:
                for each in working:
                    each.result(timeout=60)
            finally:
                self.ended.set()
            counting.result(timeout=5)


def test_workers_that_race_never_run_more_than_the_limit(database):
    put_many(database, 300)
    database.limits.limit_queue("q", 3)
    race = Race(database.conninfo, {"q": 3})
    began = time.perf_counter()
    race.run(workers=8, jobs=290)
    print(f"8 workers, limit 3: {290 / (time.perf_counter() - began):.0f} jobs a second")
    assert race.most == {"q": 3}


def test_workers_that_lock_several_queues_do_not_wait_for_each_other_for_ever(database):
    limits = {"a": 1, "b": 2, "c": 3}
    for queue, limit in limits.items():
        put_many(database, 100, queue)
        database.limits.limit_queue(queue, limit)
    race = Race(database.conninfo, limits)
    race.run(workers=6, jobs=250)
    assert all(race.most[queue] <= limit for queue, limit in limits.items())
    assert sum(race.finished.values()) >= 250


def test_a_limit_that_comes_in_the_middle_of_claims_is_kept_from_then_on(
    database, connection, make_claimers
):
    """However the claims that do not know of it yet fall: what they took counts."""
    put_many(database, 200)
    with make_claimers(4):
        wait_for(lambda: "executing" in states(connection).values())
        database.limits.limit_queue("q", 3)
        running = executing(connection)
        for _ in range(50):
            claim(database, 1)
            assert executing(connection) <= max(running, 3)
    assert executing(connection) == max(running, 3)


def executing(connection: Connection) -> int:
    row = connection.execute(
        "SELECT count(*) AS n FROM pgjobs.jobs WHERE state = 'executing'"
    ).fetchone()
    assert row is not None
    return int(row["n"])


@pytest.fixture
def make_claimers(database: Database) -> Callable[[int], Any]:
    """Threads that claim job by job and know of no limit, while the block runs."""

    @contextmanager
    def make_claimers(count: int):
        ended = threading.Event()

        def work(number: int) -> None:
            while not ended.is_set():
                claim(database, 1, UUID(int=number), knows=False)
                time.sleep(0.001)

        with ThreadPoolExecutor(count) as pool:
            working = [pool.submit(work, number + 3) for number in range(count)]
            try:
                yield
            finally:
                ended.set()
            for each in working:
                each.result(timeout=10)

    return make_claimers
