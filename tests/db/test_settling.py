"""What became of claimed jobs is written, each outcome under its own fence."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from pgjobs_celery.db.database import Database
from pgjobs_celery.job.outcome import (
    Outcome,
    Result,
    completed,
    discarded,
    error_entry,
    error_from,
    released,
    requeued,
    retried,
    snoozed,
)
from pgjobs_celery.job.rows import Bucket, Claim, ClaimKey, Fence
from pgjobs_celery.job.states import State
from tests.support.rows import by_holder, new_job, put, row, states

pytestmark = pytest.mark.usefixtures("living_nodes")

A, B = UUID(int=1), UUID(int=2)
CLAIM = ClaimKey(0, 1)


def claimed(database: Database, *task_ids: str, node: UUID = A) -> dict[str, Claim]:
    """Put these jobs in line and claim them."""
    put(database, *task_ids)
    claims, lost = database.claims.claim_jobs(node, "node", [Bucket("celery")], len(task_ids))
    assert lost == []
    return dict(zip(task_ids, claims, strict=True))


def result_of(task_id: str, **values: Any) -> Result:
    given = {"result": b"42", "result_type": "application/json", "traceback": None}
    return Result(**{"task_id": task_id, "children": None, "error": None, **given, **values})


@pytest.mark.parametrize(
    ("outcome", "state", "kinds"),
    [
        (
            requeued(CLAIM, error_entry("Lost", "x")),
            "cancelled",
            ["Lost", "TaskRevokedError"],
        ),
        (released(CLAIM), "cancelled", ["TaskRevokedError"]),
        (
            retried(CLAIM, 5.0, error_entry("Failed", "x")),
            "cancelled",
            ["Failed", "TaskRevokedError"],
        ),
        (snoozed(CLAIM, 5.0), "cancelled", ["TaskRevokedError"]),
        (completed(CLAIM), "completed", []),
        (discarded(CLAIM, error_entry("Failed", "x")), "discarded", ["Failed"]),
    ],
)
def test_what_somebody_wants_cancelled_does_not_come_back(
    database, connection, outcome, state, kinds
):
    job = claimed(database, "a")["a"]
    connection.execute(
        "UPDATE pgjobs.jobs SET cancel_requested_at = now(), cancel_reason = 'enough'"
    )
    assert database.claims.settle_jobs(A, [outcome._replace(id=job.id)]) == []
    found = row(connection, "a")
    assert (found["state"], found["due_at"], found["claimed_by"]) == (state, None, None)
    assert [entry["type"] for entry in found["errors"]] == kinds
    if state == "cancelled":
        assert found["errors"][-1]["message"] == "enough"


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_what_a_snoozed_task_said_of_itself_goes_with_its_attempt(
    database, connection, is_cancelled
):
    """Or it would be taken for the result of the job, and get() fail of it."""
    job = claimed(database, "a")["a"]
    connection.execute(
        "UPDATE pgjobs.jobs SET reported_state = 'STARTED', result = '{}', result_type = 'x',"
        " cancel_requested_at = CASE WHEN %s THEN now() END", [is_cancelled],
    )  # fmt: skip
    assert database.claims.settle_jobs(A, [snoozed(job, 60.0)]) == []
    found = row(connection, "a")
    assert found["state"] == ("cancelled" if is_cancelled else "scheduled")
    assert (found["reported_state"], found["result"], found["result_type"]) == (None, None, None)


def test_what_failed_before_is_not_the_result_of_what_is_cancelled_before_it_begins(
    database, connection
):
    job = claimed(database, "a")["a"]
    connection.execute(
        "UPDATE pgjobs.jobs SET reported_state = 'RETRY', result = '{}', traceback = 'x',"
        " cancel_requested_at = now()"
    )
    assert database.claims.settle_jobs(A, [released(job)]) == []
    found = row(connection, "a")
    assert (found["state"], found["result"], found["traceback"]) == ("cancelled", None, None)


def test_what_is_taken_from_the_dead_and_was_to_be_cancelled_is(database, connection):
    claimed(database, "late", "early")
    connection.execute(
        "UPDATE pgjobs.jobs SET cancel_requested_at = now(), acks_late = task_id = 'late'"
    )
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = '-infinity'")
    database.claims.rescue_jobs()
    # It may have run, or not.
    assert states(connection) == {"late": "cancelled", "early": "discarded"}
    kinds = [entry["type"] for entry in row(connection, "late")["errors"]]
    assert kinds == ["WorkerLostError", "TaskRevokedError"]


def test_only_an_attempt_that_was_lost_makes_a_retry_one_of_what_was_begun_before(
    database, connection
):
    jobs = claimed(database, "failed", "lost", "snoozed")
    error = error_entry("Failed", "x")
    outcomes = [
        retried(jobs["failed"], 30.0, error),
        retried(jobs["lost"], 30.0, error, was_lost=True),
        snoozed(jobs["snoozed"], 60.0),
    ]
    assert database.claims.settle_jobs(A, outcomes) == []
    found = {name: row(connection, name)["redelivered"] for name in jobs}
    assert found == {"failed": False, "lost": True, "snoozed": False}


def test_a_retry_waits_and_a_snooze_costs_nothing(database, connection):
    jobs = claimed(database, "retried", "snoozed", "last")
    connection.execute("UPDATE pgjobs.jobs SET max_attempts = 1 WHERE task_id <> 'retried'")
    error = error_entry("Failed", "x")
    outcomes = [
        retried(jobs["retried"], 30.0, error),
        snoozed(jobs["snoozed"], 60.0),
        retried(jobs["last"], 30.0, error),
    ]
    assert database.claims.settle_jobs(A, outcomes) == []
    assert states(connection) == {
        "retried": "retryable", "snoozed": "scheduled", "last": "discarded"
    }  # fmt: skip
    found = row(connection, "retried")
    assert (found["attempt"], found["reported_state"]) == (1, "RETRY")
    assert found["due_at"] == found["scheduled_at"]
    found = row(connection, "snoozed")
    assert (found["attempt"], found["reported_state"], found["meta"]) == (0, None, {"snoozed": 1})


def test_outcomes_of_every_kind_go_out_in_one_statement(database, connection):
    jobs = claimed(database, "ok", "kept", "failed", "never", "back", "cancelled", "runs")
    error = error_from(KeyError("x"), "Traceback ...")
    outcomes = [
        completed(jobs["ok"]),
        completed(jobs["kept"], result_of("kept", children='["c"]')),
        discarded(jobs["failed"], error),
        released(jobs["never"]),
        requeued(jobs["back"]),
        Outcome(jobs["cancelled"].id, 1, State.CANCELLED, error_entry("Revoked", "why")),
    ]
    assert database.claims.settle_jobs(A, outcomes) == []
    assert states(connection) == {
        "ok": "completed", "kept": "completed", "failed": "discarded", "never": "available",
        "back": "available", "cancelled": "cancelled", "runs": "executing",
    }  # fmt: skip
    kept, failed = row(connection, "kept"), row(connection, "failed")
    assert (kept["result"], kept["result_type"], kept["children"]) == (
        b"42", "application/json", '["c"]',
    )  # fmt: skip
    assert row(connection, "ok")["result"] is None
    (entry,) = failed["errors"]
    assert (entry["type"], entry["module"], entry["attempt"]) == ("KeyError", "builtins", 1)
    assert (entry["message"], entry["traceback"]) == ("'x'", "Traceback ...")
    assert entry["at"]
    assert (row(connection, "never")["attempt"], row(connection, "back")["attempt"]) == (0, 1)
    for task_id in ("ok", "kept", "failed", "cancelled"):
        assert row(connection, task_id)["finished_at"] is not None
    for task_id in ("never", "back"):
        found = row(connection, task_id)
        assert (found["redelivered"], found["claimed_by"]) == (True, None)
        assert found["seq"] == jobs[task_id].seq


def test_settling_goes_with_the_next_claim(database, connection):
    jobs = claimed(database, "a")
    put(database, "b")
    claims, lost = database.claims.claim_jobs(
        A, "node", [Bucket("celery")], 5, [completed(jobs["a"])]
    )
    assert (len(claims), lost) == (1, [])
    assert states(connection) == {"a": "completed", "b": "executing"}


def test_what_is_put_back_may_be_claimed_in_the_same_transaction(database):
    jobs = claimed(database, "a")
    outcomes = [released(jobs["a"])]
    (again,), _ = database.claims.claim_jobs(A, "node", [Bucket("celery")], 5, outcomes)
    assert (again.id, again.attempt, again.redelivered) == (jobs["a"].id, 1, True)


# -- the fence -----------------------------------------------------------------------------------


def all_outcomes(claim: ClaimKey) -> list[Outcome]:
    return [
        completed(claim),
        completed(claim, result_of("a")),
        discarded(claim, error_entry("E", "m")),
        released(claim),
        requeued(claim),
        Outcome(*claim, State.CANCELLED),
    ]


@pytest.mark.parametrize("index", range(6))
def test_who_lost_the_claim_changes_nothing_and_learns_of_it(database, connection, index):
    """Another node, an earlier attempt, a later one, no such job, and a job that has finished."""
    jobs = claimed(database, "a", "b")
    database.claims.settle_jobs(A, [completed(jobs["b"])])
    before = row(connection, "a"), row(connection, "b")
    for node, id, attempt in (
        (B, jobs["a"].id, 1),
        (A, jobs["a"].id, 0),
        (A, jobs["a"].id, 2),
        (A, 2**40, 1),
        (A, jobs["b"].id, 1),
    ):
        outcome = all_outcomes(ClaimKey(id, attempt))[index]
        assert database.claims.settle_jobs(node, [outcome]) == [outcome]
    assert (row(connection, "a"), row(connection, "b")) == before


def test_a_lost_outcome_takes_no_other_with_it(database, connection):
    jobs = claimed(database, "a", "b")
    lost = completed(ClaimKey(jobs["b"].id, 7))
    assert database.claims.settle_jobs(A, [lost, completed(jobs["a"])]) == [lost]
    assert states(connection) == {"a": "completed", "b": "executing"}


def test_an_old_attempt_of_the_same_node_is_fenced_off(database, connection):
    """Early in the time-based rescues of others: the first run's ack marks the second one done."""
    jobs = claimed(database, "a")
    database.claims.settle_jobs(A, [requeued(jobs["a"])])
    database.claims.claim_jobs(A, "node", [Bucket("celery")], 1)
    late = completed(jobs["a"])
    assert database.claims.settle_jobs(A, [late]) == [late]
    assert states(connection) == {"a": "executing"}


def test_writing_twice_is_harmless(database, connection):
    jobs = claimed(database, "a")
    outcome = completed(jobs["a"])
    assert database.claims.settle_jobs(A, [outcome]) == []
    finished = row(connection, "a")
    assert database.claims.settle_jobs(A, [outcome]) == [outcome]
    assert row(connection, "a") == finished


@pytest.mark.parametrize(
    "pair", [(completed, completed), (completed, released), (released, completed)]
)
def test_one_job_twice_in_one_batch_is_settled_once(database, connection, pair):
    jobs = claimed(database, "a", "b")
    outcomes = [pair[0](jobs["a"]), completed(jobs["b"]), pair[1](jobs["a"])]
    assert database.claims.settle_jobs(A, outcomes) == []
    found = row(connection, "a")
    assert found["claimed_by"] is None
    assert (found["state"], found["attempt"]) in {("completed", 1), ("available", 0)}
    assert states(connection)["b"] == "completed"


# -- attempts ------------------------------------------------------------------------------------


def test_a_job_that_was_started_as_often_as_it_may_be_is_discarded_and_says_why(
    database, connection
):
    jobs = claimed(database, "a", "b")
    connection.execute("UPDATE pgjobs.jobs SET max_attempts = 3")
    for attempt in (1, 2, 3):
        outcomes = [requeued(ClaimKey(jobs["a"].id, attempt)), released(jobs["b"])]
        assert database.claims.settle_jobs(A, outcomes) == []
        claims, _ = database.claims.claim_jobs(A, "node", [Bucket("celery")], 2)
    found = row(connection, "a")
    assert (found["state"], found["attempt"]) == ("discarded", 3)
    assert found["finished_at"] is not None
    (entry,) = found["errors"]
    assert entry["type"] == "DeliveryLimitExceeded"
    assert "3 times" in entry["message"]
    assert [claim.id for claim in claims] == [jobs["b"].id]
    assert row(connection, "b")["attempt"] == 1


def test_a_job_that_never_started_goes_back_whatever_its_max_attempts(database, connection):
    jobs = claimed(database, "a")
    connection.execute("UPDATE pgjobs.jobs SET max_attempts = 1")
    for _ in range(3):
        assert database.claims.settle_jobs(A, [released(jobs["a"])]) == []
        (again,), _ = database.claims.claim_jobs(A, "node", [Bucket("celery")], 1)
        assert again.attempt == 1
    assert row(connection, "a")["state"] == "executing"


def test_a_job_that_was_the_last_may_still_complete(database, connection):
    jobs = claimed(database, "a")
    connection.execute("UPDATE pgjobs.jobs SET max_attempts = 1")
    assert database.claims.settle_jobs(A, [completed(jobs["a"])]) == []
    assert states(connection) == {"a": "completed"}


def test_errors_of_all_attempts_are_kept(database, connection):
    jobs = claimed(database, "a")
    outcome = requeued(jobs["a"])._replace(error=error_entry("First", "1"))
    database.claims.settle_jobs(A, [outcome])
    database.claims.claim_jobs(A, "node", [Bucket("celery")], 1)
    database.claims.settle_jobs(
        A, [discarded(ClaimKey(jobs["a"].id, 2), error_entry("Second", "2"))]
    )
    errors = row(connection, "a")["errors"]
    assert [(error["type"], error["attempt"]) for error in errors] == [("First", 1), ("Second", 2)]


# -- what is hard to write -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["\0", "\ud800", "\\", '"', "{}", "NULL", "ä€😀", "'; DROP", "x" * 10_000, "\\u0000"]
)
def test_no_text_of_a_task_keeps_an_outcome_from_being_written(database, connection, text):
    jobs = claimed(database, "a", "b")
    broken = type("Broken", (Exception,), {"__qualname__": text or "x", "__module__": text})
    database.claims.settle_jobs(
        A,
        [
            discarded(jobs["a"], error_from(broken(text), text)),
            discarded(jobs["b"], error_entry(text, text, text, text)),
        ],
    )
    assert set(states(connection).values()) == {"discarded"}
    assert json.dumps(row(connection, "a")["errors"])


def test_any_result_is_kept_byte_for_byte(database, connection):
    every = bytes(range(256)) * 10
    jobs = claimed(database, "a", "b", "c")
    given = {"a": every, "b": b"", "c": None}
    database.claims.settle_jobs(
        A, [completed(jobs[i], result_of(i, result=r)) for i, r in given.items()]
    )
    assert {i: row(connection, i)["result"] for i in given} == given
    assert row(connection, "c")["result_type"] == "application/json"


def test_a_batch_of_many_is_written_whole(database, connection):
    names = [str(number) for number in range(500)]
    jobs = claimed(database, *names)
    outcomes = [completed(job, result_of(i, result=b"x" * 1000)) for i, job in jobs.items()]
    assert database.claims.settle_jobs(A, outcomes) == []
    assert set(states(connection).values()) == {"completed"}


def test_what_the_pool_child_wrote_first_stands(database, connection):
    jobs = claimed(database, "a")
    result = result_of("a", result=b"child")
    assert database.results.finish_job(result, State.COMPLETED, Fence(A, 1))
    late = discarded(jobs["a"], error_entry("E", "late"))
    assert database.claims.settle_jobs(A, [late]) == [late]
    assert row(connection, "a")["result"] == b"child"


def test_an_outcome_about_an_attempt_that_published_its_own_retry_is_lost(database, connection):
    jobs = claimed(database, "a")
    database.jobs.insert_job(new_job("a", eta=60), by_holder(Fence(A, 1)))
    late = completed(jobs["a"])
    assert database.claims.settle_jobs(A, [late]) == [late]
    assert states(connection) == {"a": "retryable"}


def test_of_many_errors_the_newest_stay(database, connection):
    put(database, "a")
    connection.execute("UPDATE pgjobs.jobs SET max_attempts = 100")
    error = error_entry("KeyError", "no")
    for attempt in range(1, 54):
        (claim,), _ = database.claims.claim_jobs(A, "node", [Bucket("celery")], 1)
        database.claims.settle_jobs(
            A, [requeued(ClaimKey(claim.id, attempt))._replace(error=error)]
        )
        kept = [entry["attempt"] for entry in row(connection, "a")["errors"]]
        assert kept == list(range(max(1, attempt - 49), attempt + 1))
