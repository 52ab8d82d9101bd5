"""Totals count each end once, whatever becomes of its row, and never go backwards."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.control.jobs import Selection
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.metrics import Amount, Ends, Key
from pgjobs_celery.db.rows.metrics import Fold as Found
from pgjobs_celery.job.outcome import completed, discarded, error_entry, retried
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.maintenance import fold as folding
from pgjobs_celery.maintenance.fold import EXCEPTIONS, LONGEST, Fold, advance, increments
from tests.support.rows import alive, new_job, put

Connection = psycopg.Connection[dict[str, Any]]

NODE = UUID(int=1)
BUCKETS = [Bucket("celery", 0, 255, 0)]
FAILED = error_entry("ValueError", "no")


class Impatient(Fold):
    """Does not wait between two looks."""

    interval = 0.0
    pace = 0.0


@pytest.fixture
def fold(database: Database, connection: Connection) -> Callable[[], None]:
    alive(database, NODE)
    connection.execute("DELETE FROM pgjobs.fold")
    database.metrics.begin_fold()
    return lambda: (Impatient(100).run(database), None)[1]


def totals(database: Database) -> Counter[str]:
    """The count of each kind, of all names together."""
    found: Counter[str] = Counter()
    for key, counts, _ in database.metrics.list_totals():
        found[key.kind] += sum(counts.values())
    return +found


def run_one(database: Database, outcome: Any = completed) -> int:
    """Claim what is next in line, and end it."""
    ((claim,), _) = database.claims.claim_jobs(NODE, "n", BUCKETS, 1)
    assert database.claims.settle_jobs(NODE, [outcome(claim)]) == []
    return claim.id


def age(connection: Connection, seconds: float = 60.0) -> None:
    """Let time pass for what has ended."""
    connection.execute(
        "UPDATE pgjobs.jobs SET finished_at = finished_at - %s * interval '1 second',"
        " attempted_at = attempted_at - %s * interval '1 second',"
        " scheduled_at = scheduled_at - %s * interval '1 second' WHERE finished_at IS NOT NULL",
        (seconds, seconds, seconds),
    )
    connection.execute(
        "UPDATE pgjobs.fold SET watermark = watermark - %s * interval '1 second'", (seconds,)
    )


def test_an_end_is_counted_at_once_and_only_once(database, connection, fold):
    put(database, "a", "b", "c")
    run_one(database)
    run_one(database, lambda claim: discarded(claim, FAILED))
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now() WHERE task_id = 'c'"
    )
    for _ in range(3):
        fold()
        assert totals(database) == {
            "succeeded": 1, "failed": 1, "revoked": 1, "received": 2, "runtime": 1, "wait": 2,
        }  # fmt: skip
        age(connection)
    assert connection.execute("SELECT sum(recent_count) AS n FROM pgjobs.totals").fetchone() == {
        "n": 0
    }
    failures = [key for key, _, _ in database.metrics.list_totals() if key.kind == "failed"]
    assert failures == [Key("tasks.add", "celery", "ValueError", "failed")]


def test_what_is_pruned_stays_counted(database, connection, fold):
    put(database, "a", "b")
    run_one(database)
    fold()
    run_one(database)  # and this one was never looked at
    connection.execute("DELETE FROM pgjobs.jobs")
    fold()
    assert totals(database)["succeeded"] == 2
    age(connection)
    fold()
    fold()
    assert totals(database)["succeeded"] == 2
    assert connection.execute("SELECT FROM pgjobs.tally").fetchall() == []


def test_a_row_that_was_counted_for_good_is_deleted_without_a_word(database, connection, fold):
    put(database, "a")
    run_one(database)
    fold()
    age(connection)
    fold()
    connection.execute("DELETE FROM pgjobs.jobs")
    assert connection.execute("SELECT FROM pgjobs.tally").fetchall() == []


@pytest.mark.parametrize("is_old", [False, True], ids=["soon", "later"])
@pytest.mark.parametrize("is_seen", [False, True], ids=["unseen", "seen"])
@pytest.mark.parametrize("way", ["retry", "publish"])
def test_a_job_that_runs_again_ends_again(
    database: Database, connection: Connection, fold, way: str, is_seen: bool, is_old: bool
):
    put(database, "a")
    run_one(database)
    if is_seen:
        fold()
    if is_old:
        age(connection)
        fold()
    if way == "retry":
        retry(database)
    else:
        put(database, "a")
    assert connection.execute("SELECT state FROM pgjobs.jobs").fetchall() == [
        {"state": "available"}
    ]
    fold()
    assert totals(database)["succeeded"] == 1
    run_one(database)
    fold()
    age(connection)
    fold()
    assert totals(database)["succeeded"] == 2


def retry(database: Database) -> None:
    """As ``jobs(app).retry()`` does."""
    Selection(database).filter(state="completed").retry()


def test_an_end_that_is_committed_late_is_not_lost(database, connection, fold, url):
    put(database, "a", "b")
    run_one(database)
    with psycopg.connect(parse_url(url)) as late:
        late.execute(
            "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now() WHERE task_id = 'b'"
        )
        for _ in range(3):
            fold()  # may go no further than this end, which it cannot see
            connection.execute(
                "UPDATE pgjobs.fold SET candidate = now() WHERE candidate IS NOT NULL"
            )
        assert totals(database)["succeeded"] == 1
        late.commit()
    fold()
    fold()
    assert totals(database) == {
        "succeeded": 1, "revoked": 1, "received": 1, "runtime": 1, "wait": 1,
    }  # fmt: skip


def test_attempts_that_are_retried_are_counted_once(database, connection, fold):
    put(database, "a")
    (claim,) = database.claims.claim_jobs(NODE, "n", BUCKETS, 1)[0]
    outcome = retried(claim, 60.0, FAILED)
    assert database.claims.settle_jobs(NODE, [outcome]) == []
    assert database.claims.settle_jobs(NODE, [outcome]) == [outcome]  # its answer was lost
    fold()
    assert totals(database) == {"retried": 1, "received": 1}


def test_attempts_of_dead_workers_are_counted(database, connection, fold):
    put(database, "a")
    database.claims.claim_jobs(NODE, "n", BUCKETS, 1)
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '2 hours'")
    assert database.claims.rescue_jobs().returned == 1
    fold()
    assert totals(database) == {"rescued": 1, "received": 1}


def test_an_id_that_was_revoked_and_never_published_is_not_a_job(database, fold):
    database.jobs.forbid_jobs(["a"])
    fold()
    assert totals(database) == {}


def test_two_processes_do_not_count_the_same(database, connection, fold, url):
    put(database, "a")
    run_one(database)
    other = Database(parse_url(url), Options())
    try:
        with database.transaction():
            assert database.metrics.lock_fold(0, 0) is not None
            Impatient(100).run(other)
            assert totals(other) == {}
    finally:
        other.close()
    fold()
    assert totals(database)["succeeded"] == 1


def test_times_and_names_that_nobody_expects_do_no_harm(database, connection, fold):
    put(database, "a", "b", "c", task="x" * 9000, queue="celery")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = 'infinity',"
        " attempted_at = '-infinity', scheduled_at = 'infinity' WHERE task_id = 'a'"
    )
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now() + interval '9 years',"
        " attempted_at = '0001-01-01', errors = '[1]' WHERE task_id = 'b'"
    )
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now(), errors = '[[]]'"
        " WHERE task_id = 'c'"
    )
    fold()
    fold()
    assert totals(database)["succeeded"] == 2
    assert totals(database)["failed"] == 1


def test_lines_are_counted(database, connection, fold):
    put(database, "a", "b")
    put(database, "c", queue="other", eta=60)
    (claim,) = database.claims.claim_jobs(NODE, "n", BUCKETS, 1)[0]
    connection.execute(
        "UPDATE pgjobs.jobs SET scheduled_at = now() - interval '1 hour' WHERE task_id = 'b'"
    )
    fold()
    lines = {(line.queue, line.state): line for line in database.metrics.list_lines()}
    assert {key: line.jobs for key, line in lines.items()} == {
        ("celery", "available"): 1, ("celery", "executing"): 1, ("other", "scheduled"): 1,
    }  # fmt: skip
    assert lines["celery", "executing"].node == NODE
    assert 3600 <= lines["celery", "available"].oldest < 3700
    assert claim.attempt == 1
    connection.execute("DELETE FROM pgjobs.jobs")
    fold()
    assert [line for line in database.metrics.list_lines() if line.jobs] == []


def test_an_end_that_is_final_while_its_row_is_deleted_is_counted_once(
    database, connection, fold, url
):
    put(database, "a")
    run_one(database)
    fold()
    connection.execute("UPDATE pgjobs.fold SET candidate = now()")
    with psycopg.connect(parse_url(url)) as late:
        late.execute("DELETE FROM pgjobs.jobs")
        assert late.execute("SELECT count(*) FROM pgjobs.tally").fetchone() == (1,)
        fold()  # began to wait before the deletion did, and sees the row
        assert connection.execute(
            "SELECT sum(recent_count) AS n FROM pgjobs.totals"
        ).fetchall() == [{"n": 0}]
        late.commit()
    fold()
    assert totals(database)["succeeded"] == 1


def work(url: str, seed: int) -> int:
    """End jobs, put them back in line by hand, delete them, publish their ids; how many ended."""
    mine, chance, node, ended = Database(parse_url(url), Options()), random.Random(seed), seed, 0
    alive(mine, UUID(int=node))
    try:
        for _ in range(90):
            claims, _ = mine.claims.claim_jobs(UUID(int=node), "n", BUCKETS, 3)
            outcomes = [completed(claim) for claim in claims]
            assert mine.claims.settle_jobs(UUID(int=node), outcomes) == []
            ended += len(claims)
            match chance.randrange(4):
                case 0:
                    retry(mine)
                case 1:
                    mine.jobs.insert_job(new_job(f"j{chance.randrange(40)}"))
                case 2:
                    with psycopg.connect(parse_url(url)) as hand:
                        hand.execute(
                            "DELETE FROM pgjobs.jobs WHERE finished_at IS NOT NULL AND id % 3 = 0"
                        )
        return ended
    finally:
        mine.close()


def count(url: str, stopped: threading.Event) -> None:
    """Fold until it is over; nothing may become less."""
    mine, last = Database(parse_url(url), Options()), 0
    try:
        while not stopped.is_set():
            Impatient(100).run(mine)
            now = totals(mine)["succeeded"]
            assert now >= last
            last = now
    finally:
        mine.close()


def test_many_processes_at_once_count_all_of_it(database, fold, url, monkeypatch):
    monkeypatch.setattr(folding, "SLACK", 0.3)  # so that ends become final meanwhile
    put(database, *(f"j{n}" for n in range(40)))
    stopped = threading.Event()
    with ThreadPoolExecutor() as threads:
        counters = [threads.submit(count, url, stopped) for _ in range(2)]
        workers = [threads.submit(work, url, seed) for seed in (2, 3, 4)]
        try:
            ended = sum(worker.result() for worker in workers)
        finally:
            stopped.set()
        for counter in counters:
            counter.result()
    fold()
    assert totals(database)["succeeded"] == ended


#: Counted in the buckets of the history, which has some more below these.
ENDS = Ends("t", "q", "completed", "", True, True, 4, 5, 5, 700, 800)


def test_each_end_is_counted_by_its_kind():
    assert increments([ENDS], set(), 10) == {
        Key("t", "q", "", "succeeded"): Amount(5),
        Key("t", "q", "", "received"): Amount(5),
        Key("t", "q", "", "runtime", 2): Amount(5, 700),
        Key("t", "q", "", "wait", 3): Amount(5, 800),
    }
    assert increments(
        [ENDS._replace(state="retried", is_final=False, has_run=False)], set(), 10
    ) == {
        Key("t", "q", "", "retried"): Amount(recent_number=5),
        Key("t", "q", "", "received"): Amount(recent_number=5),
    }
    assert increments([ENDS._replace(state="cancelled")], set(), 10) == {
        Key("t", "q", "", "revoked"): Amount(5)
    }


def test_names_beyond_the_limit_count_together():
    ends = [ENDS._replace(task=f"t{n}", state="cancelled") for n in range(4)]
    assert {key.task for key in increments(ends, {("t3", "q", "")}, 3)} == {
        "t0", "t1", "t3", "other",
    }  # fmt: skip
    assert {key.queue for key in increments(ends, set(), 1)} == {"q", "other"}


def test_a_name_that_has_a_place_keeps_it_though_the_limit_falls():
    assert {key.task for key in increments([ENDS], {("t", "q", ""), ("u", "q", "")}, 1)} == {"t"}


def test_exceptions_beyond_the_limit_count_together():
    ends = [ENDS._replace(state="discarded", exception=f"E{n}") for n in range(EXCEPTIONS + 5)]
    found = {
        key.exception: a.number
        for key, a in increments(ends, set(), 9).items()
        if key.kind == "failed"
    }
    assert len(found) == EXCEPTIONS + 1
    assert found["other"] == 25


def test_the_watermark_waits_for_those_who_may_write_before_it():
    fold = Found("w", None, [], None, True, True)
    assert advance(fold, "c1", ["1/1", "2/1"]) == ("w", "c1", ["1/1", "2/1"])
    fold = fold._replace(candidate="c1", candidate_age=5.0, holders=["1/1", "2/1"])
    assert advance(fold, "c2", ["2/1", "3/1"]) == ("w", "c1", ["2/1"])
    assert advance(fold, "c2", ["2/2", "3/1"]) == ("c1", "c2", ["2/2", "3/1"])
    late = fold._replace(candidate_age=LONGEST)
    assert advance(late, "c2", ["2/1"]) == ("c1", "c2", ["2/1"])
