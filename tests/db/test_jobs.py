"""Jobs are put in line, claimed in order and by one node, staged when due, purged and counted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import psycopg
import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.job.outcome import completed, released
from pgjobs_celery.job.rows import Bucket, Claim, Fence, Run
from tests.support.rows import alive, by_holder, new_job, put, row, states

pytestmark = pytest.mark.usefixtures("living_nodes")

A, B = UUID(int=1), UUID(int=2)


def claim(
    database: Database, limit: int = 10, node: UUID = A, buckets: tuple[Bucket, ...] = ()
) -> list[Claim]:
    return database.claims.claim_jobs(
        node, f"node{node.int}", buckets or (Bucket("celery"),), limit
    )[0]


def names(connection: psycopg.Connection, claims: list[Claim]) -> list[str]:
    ids = {r["id"]: r["task_id"] for r in connection.execute("SELECT id, task_id FROM pgjobs.jobs")}
    return [ids[claim.id] for claim in claims]


def finish(database: Database, claims: list[Claim], node: UUID = A) -> None:
    assert database.claims.settle_jobs(node, [completed(c) for c in claims]) == []


# -- in line -------------------------------------------------------------------------------------


def test_a_published_job_is_a_row_with_all_that_was_given(database, connection):
    job = new_job(
        "a", root_id="r", parent_id="p", group_id="g", priority=7, queue="q ü", body=b"\x00\xff",
        message='{"x": "\\u0000"}', max_attempts=3, tags=["t, {}", 'ü"'], meta='{"k": [1]}',
    )  # fmt: skip
    database.jobs.insert_job(job)
    found = row(connection, "a")
    given = {**job._asdict(), "meta": {"k": [1]}}
    del given["eta"], given["delay"], given["ttl"], given["seq"]
    assert {name: found[name] for name in given} == given
    assert (found["state"], found["attempt"], found["due_at"]) == ("available", 0, None)
    assert found["seq"] > 0
    assert found["inserted_at"] == found["scheduled_at"]


@pytest.mark.parametrize("ttl", [None, 30.0, 90.0])
@pytest.mark.parametrize("expires_at", [None, datetime(2099, 1, 1, tzinfo=timezone.utc)])
def test_a_fresh_job_is_a_row_as_any_other(database, connection, ttl, expires_at):
    connection.execute("INSERT INTO pgjobs.queues (name, message_ttl) VALUES ('brief', 60)")
    for queue in ("brief", "celery"):
        common = {
            "queue": queue, "root_id": "r", "parent_id": "p", "group_id": "g", "group_index": 3,
            "priority": 7, "expires_at": expires_at, "ttl": ttl, "tags": ["t"], "meta": '{"k": 1}',
            "lane": None, "cost": 2,
        }  # fmt: skip
        database.jobs.insert_new_job(new_job(f"{queue} new", **common))
        database.jobs.insert_fresh_job(new_job(f"{queue} fresh", **common))
        new, fresh = (row(connection, f"{queue} {kind}") for kind in ("new", "fresh"))
        # Of two statements, one after the other.
        for times in ("expires_at", "scheduled_at"):
            new[times], fresh[times] = (
                each[times] and round((each[times] - each["inserted_at"]).total_seconds())
                for each in (new, fresh)
            )
        for name in ("id", "seq", "task_id", "inserted_at"):
            del new[name], fresh[name]
        assert fresh == new


def test_a_fresh_job_whose_id_has_a_row_changes_nothing(database, connection):
    put(database, "a")
    before = row(connection, "a")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.jobs.insert_fresh_job(new_job("a", queue="other"))
    assert row(connection, "a") == before
    put(database, "b")


def test_a_delay_goes_by_the_clock_of_the_database(database, connection):
    put(database, "a", eta=-3600, delay=60.0)
    found = row(connection, "a")
    assert found["state"] == "scheduled"
    assert (found["due_at"] - found["inserted_at"]).total_seconds() == 60


def test_a_task_may_go_on_in_another_database_under_its_id(database, connection):
    """Its claim is none here: the job is a new one, or runs again, as anybody's would."""
    elsewhere = Fence(UUID(int=77), 1)
    assert database.jobs.insert_job(new_job("a"), Run(elsewhere))
    finish(database, claim(database))
    assert database.jobs.insert_job(new_job("a"), Run(elsewhere))
    assert not database.jobs.insert_job(new_job("a"), Run(elsewhere))
    assert not database.jobs.insert_job(new_job("b"), by_holder(elsewhere))


def test_a_claim_knows_how_long_it_is_worth_running(database, connection):
    put(database, "a", expires_at=datetime.now(timezone.utc) + timedelta(hours=1))
    (one,) = claim(database)
    assert 3590 < one.expires_in < 3601


def test_a_job_with_an_eta_waits_for_it_and_one_whose_eta_is_past_does_not(database, connection):
    put(database, "later", eta=60)
    put(database, "now", eta=-60)
    later, now = row(connection, "later"), row(connection, "now")
    assert (later["state"], later["due_at"]) == ("scheduled", later["scheduled_at"])
    assert (now["state"], now["due_at"]) == ("available", None)
    assert names(connection, claim(database)) == ["now"]


def test_publishing_an_id_that_waits_changes_nothing(database, connection):
    put(database, "a")
    before = row(connection, "a")
    put(database, "a", body=b"other", queue="other", priority=3, eta=60)
    assert row(connection, "a") == before


def test_publishing_an_id_that_waits_for_its_time_changes_nothing(database, connection):
    put(database, "a", eta=60)
    before = row(connection, "a")
    put(database, "a")
    assert row(connection, "a") == before


def test_publishing_an_id_that_runs_changes_nothing(database, connection):
    put(database, "a")
    claim(database)
    before = row(connection, "a")
    put(database, "a", body=b"other")
    database.jobs.insert_job(new_job("a", body=b"other"), by_holder(Fence(B, 1)))
    database.jobs.insert_job(new_job("a", body=b"other"), by_holder(Fence(A, 2)))
    assert row(connection, "a") == before


@pytest.mark.parametrize(("eta", "state"), [(None, "available"), (60, "retryable")])
def test_the_holder_puts_its_own_job_back_in_line(database, connection, eta, state):
    put(database, "first", "a", "last")
    claims = claim(database, 2)
    database.jobs.insert_job(new_job("a", body=b"again", eta=eta), by_holder(Fence(A, 1)))
    found = row(connection, "a")
    assert (found["state"], found["attempt"], found["claimed_by"]) == (state, 1, None)
    assert (found["body"], found["max_attempts"]) == (b"again", 21)
    assert found["seq"] > row(connection, "last")["seq"]
    assert database.claims.settle_jobs(A, [completed(claims[1])]) != []


def test_a_finished_id_runs_again_as_a_new_job(database, connection):
    put(database, "a")
    finish(database, claim(database))
    first = row(connection, "a")
    put(database, "a", body=b"second", eta=60)
    found = row(connection, "a")
    assert (found["state"], found["attempt"], found["finished_at"]) == ("scheduled", 0, None)
    # A new number: what comes late of the first is not written into the second.
    assert found["id"] > first["id"]
    assert found["seq"] > first["seq"]
    assert found["inserted_at"] > first["inserted_at"]
    assert (found["result"], found["errors"]) == (None, [])


def test_a_finished_child_does_not_run_again_for_a_parent_that_has_lost_its_claim(
    database, connection
):
    """It was taken for dead and goes on, while its next run has published the child before."""
    put(database, "parent")
    (parent,) = claim(database)
    child = new_job("child", parent_id="parent")
    fence = Fence(A, parent.attempt)
    database.jobs.insert_job(child, Run(parent=fence))
    finish(database, claim(database))
    # The parent means it: it holds its job.
    assert database.jobs.insert_job(child, Run(parent=fence))
    finish(database, claim(database))
    finish(database, [parent])
    assert not database.jobs.insert_job(child, Run(parent=fence))
    assert states(connection) == {"parent": "completed", "child": "completed"}


def test_of_many_who_publish_one_id_at_once_one_makes_the_row(database, connection):
    barrier = threading.Barrier(8)

    def publish(number: int) -> None:
        barrier.wait()
        put(database, "a", body=b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(8)))
    assert states(connection) == {"a": "available"}


# -- claims --------------------------------------------------------------------------------------


def test_a_claim_is_an_attempt_of_one_node(database, connection):
    put(database, "a", body=b"body", message="message")
    (one,) = claim(database)
    found = row(connection, "a")
    assert one == Claim(found["id"], 1, 20, "celery", 0, found["seq"], False, "message", b"body")
    assert (found["state"], found["attempt"]) == ("executing", 1)
    assert (found["claimed_by"], found["attempted_by"]) == (A, "node1")
    assert found["attempted_at"] is not None
    assert claim(database, node=B) == []


def test_claims_come_in_the_order_of_priority_and_place_in_line(database, connection):
    for number, priority in enumerate([5, 0, 255, 5, 0, 9]):
        put(database, f"{priority}-{number}", priority=priority)
    in_order = ["0-1", "0-4", "5-0", "5-3", "9-5", "255-2"]
    assert names(connection, claim(database, 4)) == in_order[:4]
    assert names(connection, claim(database, 4)) == in_order[4:]


def test_a_limit_is_kept_over_all_buckets(database):
    for queue in "abc":
        for _ in range(5):
            put(database, "", queue=queue)
    buckets = tuple(Bucket(queue) for queue in "abc")
    assert [c.queue for c in claim(database, 7, buckets=buckets)] == [*"aaaaabb"]
    assert claim(database, 0, buckets=buckets) == []
    assert len(claim(database, 100, buckets=buckets)) == 8
    assert claim(database, 100, buckets=buckets) == []


def test_a_claim_takes_nothing_but_its_buckets(database, connection):
    put(database, "other", queue="other")
    for priority in range(5):
        put(database, f"p{priority}", priority=priority)
    floor = row(connection, "p2")["seq"]
    put(database, "q2", priority=2)
    assert names(connection, claim(database, buckets=(Bucket("celery", 2, 2, floor + 1),))) == [
        "q2"
    ]
    assert names(connection, claim(database, buckets=(Bucket("celery", 1, 2, 0),))) == ["p1", "p2"]
    # The floor counts in the lowest priority of the span only.
    high = (Bucket("celery", 3, 255, 2**62),)
    assert names(connection, claim(database, buckets=high)) == ["p4"]


def test_overlapping_buckets_give_each_job_once(database):
    put(database, "a", "b", "c")
    claims = claim(database, buckets=(Bucket("celery"), Bucket("celery", 0, 0)))
    assert len({one.id for one in claims}) == len(claims) == 3


def test_a_queue_with_a_difficult_name_is_claimed_from(database):
    for queue in ['q"u', "q\\", "{a,b}", "NULL", "ünï 😀", "a'b"]:
        put(database, "", queue=queue)
        assert [c.queue for c in claim(database, buckets=(Bucket(queue),))] == [queue]


def test_many_who_claim_at_once_get_each_job_once(database, connection):
    put(database, *(str(number) for number in range(300)))
    barrier = threading.Barrier(6)

    def take(number: int) -> list[Claim]:
        node, taken = UUID(int=number + 10), []
        barrier.wait()
        while claims := claim(database, 7, node):
            taken += claims
            assert [c.seq for c in claims] == sorted(c.seq for c in claims)
            finish(database, claims, node)
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = [one.id for claims in pool.map(take, range(6)) for one in claims]
    assert len(taken) == len(set(taken)) == 300
    assert set(states(connection).values()) == {"completed"}


def test_a_claim_passes_over_what_another_transaction_holds(database, connection):
    put(database, "a", "b", "c")
    with connection.transaction():
        connection.execute("SELECT 1 FROM pgjobs.jobs WHERE task_id = 'b' FOR UPDATE")
        assert names(connection, claim(database, 2)) == ["a", "c"]
    assert names(connection, claim(database)) == ["b"]


def test_a_job_put_back_by_hand_with_no_attempts_left_does_not_wedge_the_queue(
    database, connection
):
    put(database, "spent", "next")
    connection.execute("UPDATE pgjobs.jobs SET attempt = 20 WHERE task_id = 'spent'")
    assert [one.attempt for one in claim(database)] == [21, 1]


# -- what was claimed but not learnt of ----------------------------------------------------------


def test_what_a_node_claimed_without_learning_of_it_goes_back(database, connection):
    put(database, "known", "unknown", "others", "waits")
    known, unknown = claim(database, 2)
    (others,) = claim(database, 1, B)
    assert database.claims.release_unknown_jobs(A, ["celery"], [known.id]) == 1
    assert states(connection) == {
        "known": "executing", "unknown": "available", "others": "executing", "waits": "available",
    }  # fmt: skip
    found = row(connection, "unknown")
    assert (found["attempt"], found["redelivered"], found["claimed_by"]) == (0, True, None)
    assert found["seq"] == unknown.seq
    assert database.claims.release_unknown_jobs(A, ["other"], []) == 0
    assert database.claims.release_unknown_jobs(A, [], []) == 0
    assert others.attempt == 1


def test_a_job_that_goes_back_keeps_its_place_in_line(database, connection):
    put(database, "a", "b")
    (one,) = claim(database, 1)
    assert database.claims.settle_jobs(A, [released(one)]) == []
    again = claim(database)
    assert names(connection, again) == ["a", "b"]
    assert [(c.attempt, c.redelivered) for c in again] == [(1, True), (1, False)]


# -- due jobs ------------------------------------------------------------------------------------


def make_due(connection: psycopg.Connection, *task_ids: str) -> None:
    for offset, task_id in enumerate(task_ids):
        connection.execute(
            "UPDATE pgjobs.jobs SET due_at = now() - interval '1 minute' + %s * interval '1 ms' "
            "WHERE task_id = %s",
            (offset, task_id),
        )


def test_due_jobs_go_to_the_tail_of_the_line_in_the_order_of_their_times(database, connection):
    put(database, "x", "y", "z", "not yet", eta=600)
    put(database, "ready")
    make_due(connection, "z", "x", "y")
    assert database.claims.stage_jobs(2) == {"celery": 2}
    assert database.claims.stage_jobs(10) == {"celery": 1}
    assert database.claims.stage_jobs(10) == {}
    assert names(connection, claim(database)) == ["ready", "z", "x", "y"]
    assert row(connection, "not yet")["state"] == "scheduled"


def test_staging_counts_by_queue_and_passes_over_what_others_stage(database, connection):
    put(database, "a", "b", eta=600)
    put(database, "c", eta=600, queue="other")
    make_due(connection, "a", "b", "c")
    with connection.transaction():
        connection.execute("SELECT 1 FROM pgjobs.jobs WHERE task_id = 'a' FOR UPDATE")
        assert database.claims.stage_jobs(10) == {"celery": 1, "other": 1}
    assert database.claims.stage_jobs(10) == {"celery": 1}


def test_a_retry_that_is_due_is_staged_like_a_first_run(database, connection):
    put(database, "a")
    claim(database)
    database.jobs.insert_job(new_job("a", eta=60), by_holder(Fence(A, 1)))
    make_due(connection, "a")
    assert database.claims.stage_jobs(10) == {"celery": 1}
    assert [one.attempt for one in claim(database)] == [2]


def test_the_next_due_time_is_in_seconds_by_the_databases_clock(database, connection):
    assert database.claims.next_due() is None
    put(database, "ready")
    assert database.claims.next_due() is None
    put(database, "b", eta=600)
    put(database, "a", eta=300)
    assert 290 < database.claims.next_due() <= 300
    make_due(connection, "b")
    assert -62 < database.claims.next_due() < -58


# -- the rest ------------------------------------------------------------------------------------


def test_purging_cancels_what_waits_and_leaves_the_rest(database, connection):
    put(database, "done", "runs", "waits")
    put(database, "later", eta=60)
    put(database, "elsewhere", queue="other")
    done, _ = claim(database, 2)
    finish(database, [done])
    assert database.jobs.purge_jobs("celery", batch=1) == 2
    assert states(connection) == {
        "done": "completed", "runs": "executing", "waits": "cancelled", "later": "cancelled",
        "elsewhere": "available",
    }  # fmt: skip
    (error,) = row(connection, "later")["errors"]
    assert (error["type"], error["attempt"]) == ("Purged", 0)
    assert database.jobs.purge_jobs("celery") == 0


def test_ready_is_what_a_consumer_would_get(database):
    put(database, "a", "b", "c")
    put(database, "later", eta=60)
    claim(database, 1)
    assert database.jobs.count_ready("celery") == 2
    assert database.jobs.count_ready("other") == 0


def test_another_schema_is_another_set_of_jobs(database, connection, url):
    name = f"jobs_{uuid4().hex[:8]}"
    with migrations.session(database.conninfo) as session:
        migrations.migrate(session, name)
    other = Database(database.conninfo, Options(schema=name))
    try:
        alive(other, A)
        put(other, "a", "b")
        put(other, "later", eta=60)
        assert len(claim(other, 1)) == 1
        assert other.claims.stage_jobs(1) == {}
        assert other.claims.next_due() > 0
        assert states(connection) == {}
    finally:
        other.close()
        connection.execute(f"DROP SCHEMA {name} CASCADE")
