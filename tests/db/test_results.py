"""A result is written once, by who holds the claim, and read back as it was written."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.results import Origin
from pgjobs_celery.job.outcome import Outcome, Result, error_entry
from pgjobs_celery.job.rows import Bucket, Claim, Fence
from pgjobs_celery.job.states import State
from tests.support.rows import by_holder, new_job, put, row

pytestmark = pytest.mark.usefixtures("living_nodes")

A, B = UUID(int=1), UUID(int=2)
HELD = Fence(A, 1)
ELSEWHERE = Origin("tasks.far", "far", "root", "parent", "group", 3, "far@host", b"[[], {}]")


def result_of(task_id: str = "a", **values: Any) -> Result:
    given = {"result": b"42", "result_type": "application/json", "traceback": None}
    return Result(**{"task_id": task_id, "children": None, "error": None, **given, **values})


def claim(database: Database, node: UUID = A) -> Claim:
    ((one,), _) = database.claims.claim_jobs(node, "node", [Bucket("celery")], 1)
    return one


@pytest.fixture
def held(database: Database) -> Claim:
    """The job ``a``, claimed by A for its first attempt."""
    put(database, "a")
    return claim(database)


# -- finish --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.COMPLETED, State.DISCARDED, State.CANCELLED])
def test_outcome_and_result_are_one_write(database, connection, held, state):
    every = bytes(range(256))
    result = result_of(
        result=every, traceback="Trace ä", children='["b"]', error=error_entry("E", "m")
    )
    assert database.results.finish_job(result, state, HELD)
    found = row(connection, "a")
    assert (found["state"], found["claimed_by"], found["reported_state"]) == (
        state.value,
        None,
        None,
    )
    assert found["finished_at"] is not None
    assert (bytes(found["result"]), found["traceback"], found["children"]) == (
        every, "Trace ä", '["b"]',
    )  # fmt: skip
    assert [(e["type"], e["attempt"]) for e in found["errors"]] == [("E", 1)]


@pytest.mark.parametrize("fence", [Fence(B, 1), Fence(A, 0), Fence(A, 2)])
def test_who_does_not_hold_the_claim_finishes_nothing(database, connection, held, fence):
    before = row(connection, "a")
    assert not database.results.finish_job(result_of(), State.COMPLETED, fence)
    assert not database.results.report_job(result_of(), "PROGRESS", fence)
    assert row(connection, "a") == before


def test_a_finished_job_stays_as_it_is(database, connection, held):
    assert database.results.finish_job(result_of(), State.COMPLETED, HELD)
    before = row(connection, "a")
    late = result_of(result=b"late", error=error_entry("Late", ""))
    assert not database.results.finish_job(late, State.DISCARDED, HELD)
    assert not database.results.report_job(late, "PROGRESS", HELD)
    assert not database.results.report_job(late, "PROGRESS", None)
    assert not database.results.record_retry(late, HELD)
    assert not database.results.upsert_result(late, State.DISCARDED, None, ELSEWHERE)
    assert row(connection, "a") == before


# -- on the way ----------------------------------------------------------------------------------


def test_what_a_running_task_says_of_itself_is_gone_when_it_ends(database, connection, held):
    assert database.results.report_job(result_of(result=b"50%"), "PROGRESS", HELD)
    found = row(connection, "a")
    assert (found["state"], found["reported_state"], found["result"]) == (
        "executing", "PROGRESS", b"50%",
    )  # fmt: skip
    assert database.results.finish_job(result_of(), State.COMPLETED, HELD)
    assert (row(connection, "a")["reported_state"], row(connection, "a")["result"]) == (None, b"42")


def test_anybody_may_say_something_of_a_job_that_has_not_finished(database, connection):
    put(database, "a")
    assert database.results.report_job(result_of(), "SENT", None)
    assert row(connection, "a")["reported_state"] == "SENT"
    assert not database.results.report_job(result_of("none"), "SENT", None)


def test_a_retry_is_recorded_while_its_next_run_waits(database, connection, held):
    database.jobs.insert_job(new_job("a", eta=60), by_holder(HELD))
    assert database.results.record_retry(result_of(error=error_entry("E", "1")), HELD)
    found = row(connection, "a")
    assert (found["state"], found["reported_state"]) == ("retryable", "RETRY")
    assert [(e["type"], e["attempt"]) for e in found["errors"]] == [("E", 1)]


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_retry_that_is_recorded_late_is_what_was_stored_last(
    database, connection, held, has_ended
):
    """As if it had been recorded before the next attempt, which stores nothing."""
    database.jobs.insert_job(new_job("a"), by_holder(HELD))
    second = claim(database, B)
    if has_ended:
        settle(database, second)
    assert database.results.record_retry(result_of(error=error_entry("E", "1")), HELD)
    found = row(connection, "a")
    assert (found["state"], found["attempt"]) == ("completed" if has_ended else "executing", 2)
    assert (found["reported_state"], found["result"]) == ("RETRY", b"42")
    assert [e["attempt"] for e in found["errors"]] == [1]
    if not has_ended:
        settle(database, second)
        assert row(connection, "a")["reported_state"] == "RETRY"


def settle(database: Database, claim: Claim) -> None:
    outcome = Outcome(claim.id, claim.attempt, State.COMPLETED)
    assert database.claims.settle_jobs(B, [outcome]) == []


@pytest.mark.parametrize(
    "store",
    [
        lambda database, fence: database.results.report_job(result_of(), "PROGRESS", fence),
        lambda database, fence: database.results.finish_job(result_of(), State.COMPLETED, fence),
        lambda database, fence: database.results.finish_job(
            result_of(result=None, result_type=None), State.CANCELLED, fence
        ),
    ],
    ids=["reported", "completed", "cancelled"],
)
def test_a_retry_that_is_recorded_late_only_adds_its_error(database, connection, held, store):
    database.jobs.insert_job(new_job("a"), by_holder(HELD))
    second = claim(database, B)
    assert store(database, Fence(B, second.attempt))
    before = row(connection, "a")
    assert database.results.record_retry(
        result_of(result=b"late", error=error_entry("E", "1")), HELD
    )
    found = row(connection, "a")
    of_result = ("state", "reported_state", "result", "result_type", "traceback", "claimed_by")
    assert [found[name] for name in of_result] == [before[name] for name in of_result]
    assert [e["attempt"] for e in found["errors"]] == [1]


def test_a_retry_of_somebody_elses_attempt_is_not_recorded(database, connection, held):
    for fence in (Fence(B, 1), Fence(A, 2)):
        assert not database.results.record_retry(result_of(error=error_entry("E", "1")), fence)
    assert row(connection, "a")["errors"] == []


# -- results of tasks that came another way -------------------------------------------------------


def test_a_result_without_a_job_makes_a_row_that_nobody_runs(database, connection):
    result = result_of(error=error_entry("E", "m"))
    assert database.results.upsert_result(result, State.DISCARDED, None, ELSEWHERE)
    found = row(connection, "a")
    assert (found["state"], found["task"], found["queue"]) == ("discarded", "tasks.far", "far")
    assert (found["attempt"], found["attempted_by"], found["message"]) == (3, "far@host", None)
    assert database.claims.claim_jobs(A, "n", [Bucket("far")], 5) == ([], [])


def test_reports_of_a_task_from_elsewhere_end_with_its_result(database, connection):
    for state, reported in ((State.EXECUTING, "STARTED"), (State.RETRYABLE, "RETRY")):
        assert database.results.upsert_result(result_of(), state, reported, ELSEWHERE)
        found = row(connection, "a")
        assert (found["state"], found["reported_state"]) == ("executing", reported)
    assert database.results.upsert_result(result_of(), State.COMPLETED, None, ELSEWHERE)
    assert row(connection, "a")["state"] == "completed"


def test_a_report_does_not_take_a_waiting_job_out_of_line(database, connection):
    put(database, "a")
    assert not database.results.upsert_result(result_of(), State.EXECUTING, "SENT", ELSEWHERE)
    assert claim(database).attempt == 1


@pytest.mark.parametrize("eta", [None, 60])
def test_a_state_stored_before_publishing_does_not_swallow_the_job(database, connection, eta):
    """``backend.store_result(id, None, "SENT")`` in a before_task_publish handler."""
    assert database.results.upsert_result(result_of(), State.EXECUTING, "SENT", ELSEWHERE)
    put(database, "a", eta=eta)
    found = row(connection, "a")
    assert (found["state"], found["attempt"], found["reported_state"]) == (
        "available" if eta is None else "scheduled", 0, "SENT",
    )  # fmt: skip
    assert (found["max_attempts"], found["claimed_by"]) == (20, None)
    if eta is None:
        assert claim(database).attempt == 1


# -- read and forget -----------------------------------------------------------------------------


def test_results_are_read_for_those_ids_that_have_a_row(database, held):
    put(database, "b")
    database.results.finish_job(result_of(error=error_entry("E", "m")), State.DISCARDED, HELD)
    found = {r.task_id: r for r in database.results.get_results(["a", "none", "b", "a", "\0"])}
    assert set(found) == {"a", "b"}
    assert (found["a"].state, found["a"].result) == (State.DISCARDED, b"42")
    assert found["a"].last_error["type"] == "E"
    assert (found["a"].message, found["a"].body) == (None, None)
    assert (found["b"].state, found["b"].last_error) == (State.AVAILABLE, None)
    (extended,) = database.results.get_results(["a"], extended=True)
    assert (extended.message, extended.body) == (
        '{"content-type": "application/json"}', b"[[], {}, {}]",
    )  # fmt: skip
    assert database.results.get_results([]) == []


def test_finished_are_those_that_nobody_will_touch_again(database, held):
    put(database, "b")
    put(database, "c", eta=60)
    assert database.results.finished_ids(["a", "b", "c", "none", "\ud800"]) == set()
    database.results.finish_job(result_of(), State.COMPLETED, HELD)
    assert database.results.finished_ids(["a", "b", "c"]) == {"a"}


def test_forgetting_takes_a_finished_row_and_what_others_only_reported(database, connection):
    put(database, "a", "b")
    one = claim(database)
    database.results.report_job(result_of(), "PROGRESS", HELD)
    database.results.forget_result("a")
    found = row(connection, "a")
    assert (found["state"], found["reported_state"], found["result"]) == ("executing", None, None)
    assert database.results.finish_job(result_of(), State.COMPLETED, Fence(A, one.attempt))
    for task_id in ("a", "b", "none", "\0"):
        database.results.forget_result(task_id)
    rows = connection.execute("SELECT task_id FROM pgjobs.jobs").fetchall()
    assert [found["task_id"] for found in rows] == ["b"]
