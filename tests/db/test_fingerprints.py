"""A failure leaves its name, its time and its attempt in the row; a success takes them away."""

from __future__ import annotations

from uuid import UUID

import pytest

from pgjobs_celery import jobs
from pgjobs_celery.job.outcome import (
    cancelled,
    completed,
    discarded,
    error_entry,
    released,
    requeued,
    retried,
    snoozed,
)
from pgjobs_celery.job.recorded import read_entry
from pgjobs_celery.job.rows import Bucket, ClaimKey, Fence
from pgjobs_celery.job.states import State
from tests.db.test_settling import claimed, result_of
from tests.support.rows import put, row

pytestmark = pytest.mark.usefixtures("living_nodes")

A = UUID(int=1)
CLAIM = ClaimKey(0, 1)
ERROR = error_entry("ValueError", "order 7")
NAME = read_entry({"type": "ValueError", "message": "order 9"}).fingerprint("tasks.add")


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (completed(CLAIM), None),
        (cancelled(CLAIM, "why"), None),
        (discarded(CLAIM, ERROR), NAME),
        (retried(CLAIM, 5.0, ERROR), NAME),
        (requeued(CLAIM, ERROR), NAME),
        # As it was before.
        (requeued(CLAIM), "Before-1"),
        (released(CLAIM), "Before-1"),
        (snoozed(CLAIM, 5.0), "Before-1"),
    ],
)
def test_each_outcome_names_the_problem_that_the_job_stands_at(database, connection, outcome, name):
    job = claimed(database, "a")["a"]
    connection.execute("UPDATE pgjobs.jobs SET fingerprint = 'Before-1', failed_at = 'epoch'")
    assert database.claims.settle_jobs(A, [outcome._replace(id=job.id)]) == []
    found = row(connection, "a")
    assert found["fingerprint"] == name
    assert (found["failed_at"] is None) == (name is None)
    assert name in (None, "Before-1") or found["failed_at"].year > 2000
    if outcome.error and outcome.state is not State.CANCELLED:
        entry = read_entry(found["errors"][-1])
        assert (entry.attempt, entry.worker, entry.began) == (1, "node", found["attempted_at"])
        assert entry.at >= entry.began


def test_the_last_of_the_deliveries_is_named_after_what_ended_it(database, connection):
    job = claimed(database, "a")["a"]
    connection.execute("UPDATE pgjobs.jobs SET attempt = max_attempts")
    database.claims.settle_jobs(A, [requeued(ClaimKey(job.id, 20))])
    found = row(connection, "a")
    assert found["state"] == "discarded"
    assert found["fingerprint"].startswith("DeliveryLimitExceeded-")
    assert found["errors"][-1]["worker"] == "node"


def test_what_the_process_of_the_task_writes_is_named_as_well(database, connection):
    claimed(database, "a", "b")
    fence = Fence(A, 1)
    assert database.results.finish_job(result_of("a", error=ERROR), State.DISCARDED, fence)
    assert database.results.record_retry(result_of("b", error=ERROR), fence)
    for name in ("a", "b"):
        found = row(connection, name)
        assert found["fingerprint"] == NAME, name
        assert found["failed_at"] is not None
        assert found["errors"][-1]["worker"] == "node"
    assert database.results.finish_job(result_of("b"), State.COMPLETED, fence)
    assert row(connection, "b")["fingerprint"] is None
    # A report that comes late does not name what has completed.
    connection.execute("UPDATE pgjobs.jobs SET attempt = 2, errors = '[]' WHERE task_id = 'b'")
    assert database.results.record_retry(result_of("b", error=ERROR), fence)
    found = row(connection, "b")
    assert (found["fingerprint"], found["failed_at"]) == (None, None)
    assert found["errors"][-1]["attempt"] == 1


def test_a_worker_that_was_lost_is_a_problem_of_the_task(database, connection):
    put(database, "a")
    database.claims.claim_jobs(A, "celery@web1", [Bucket("celery")], 1)
    connection.execute(
        "UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '9 hours' WHERE node = %s", (A,)
    )
    assert database.claims.rescue_jobs().returned == 1
    found = row(connection, "a")
    entry = read_entry(found["errors"][-1])
    assert found["fingerprint"] == entry.fingerprint("tasks.add")
    assert (entry.worker, entry.began) == ("celery@web1", found["attempted_at"])


def test_an_action_takes_the_name_away_or_leaves_it(database, connection):
    for name in ("retried", "cancelled", "purged"):
        job = claimed(database, name)[name]
        state = retried(ClaimKey(job.id, 1), 3600.0, ERROR)
        database.claims.settle_jobs(A, [state])
    assert jobs(database).filter(id="retried").retry() == ["retried"]
    assert jobs(database).filter(id="cancelled").cancel() == ["cancelled"]
    assert row(connection, "retried")["fingerprint"] == NAME
    assert row(connection, "cancelled")["fingerprint"] is None
    assert [job.task_id for job in jobs(database).filter(error="ValueError")] == [
        "retried", "purged",
    ]  # fmt: skip
    database.jobs.purge_jobs("celery")
    assert jobs(database).filter(error="ValueError").count() == 0
