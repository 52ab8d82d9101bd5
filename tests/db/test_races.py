"""What comes too late, or at the same time as something else, changes nothing."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from pgjobs_celery.control.jobs import jobs as selected
from pgjobs_celery.db.connection import Row
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.outcome import Result, completed, discarded, error_entry, released
from pgjobs_celery.job.rows import Bucket, Claim, ClaimKey, Fence
from pgjobs_celery.job.states import State
from pgjobs_celery.node.node import Node
from tests.conftest import Connection
from tests.support.rows import alive, by_holder, new_job, put, row, states

A, B = UUID(int=1), UUID(int=2)


def claim(database: Database, node: UUID, limit: int = 1, **more: Any) -> list[Claim]:
    alive(database, node)
    return database.claims.claim_jobs(node, "n", [Bucket("celery")], limit, **more)[0]


def bury(database: Database, connection: Connection, node: UUID) -> None:
    """Have the node's lease end, and its jobs rescued."""
    silence(connection, node)
    database.claims.rescue_jobs()


def silence(connection: Connection, node: UUID) -> None:
    connection.execute(
        "UPDATE pgjobs.nodes SET heartbeat_at = now() - 2 * lease * interval '1 second'"
        " WHERE node = %s",
        (node,),
    )


def result_of(task_id: str, error: str | None = None, result: bytes = b"1") -> Result:
    entry = error and error_entry(error, "")
    return Result(task_id, result, "application/json", None, None, entry)


def test_a_rescue_takes_no_job_that_came_to_a_live_node_meanwhile(
    database: Database, connection: Connection
):
    """A row that is locked is left to a later rescue; by then a live node may have the job."""
    put(database, "a", "b")
    first, second = sorted(job.id for job in claim(database, A, 2))
    silence(connection, A)
    with psycopg.connect(database.conninfo) as lock:
        lock.execute("SELECT FROM pgjobs.jobs WHERE id = %s FOR UPDATE", (second,))
        assert database.claims.rescue_jobs().returned == 1
    assert database.claims.settle_jobs(A, [released(ClaimKey(second, 1))]) == []
    assert sorted(job.id for job in claim(database, B, 2)) == [first, second]
    assert database.claims.rescue_jobs().returned == 0
    found = connection.execute("SELECT claimed_by FROM pgjobs.jobs ORDER BY id").fetchall()
    assert found == [{"claimed_by": B}] * 2


def test_an_outcome_of_an_earlier_life_is_not_written_into_the_next(
    database: Database, connection: Connection
):
    """Finished by the child, published anew, claimed by the same node: its number is 1 again."""
    put(database, "a")
    (first,) = claim(database, A)
    assert database.results.finish_job(result_of("a"), State.COMPLETED, Fence(A, first.attempt))
    put(database, "a")
    claim(database, A)
    late = discarded(first, error_entry("E", "m"))
    assert database.claims.settle_jobs(A, [late]) == [late]
    assert states(connection) == {"a": "executing"}


def test_a_retry_that_comes_after_the_rescue_adds_nothing(
    database: Database, connection: Connection
):
    """record_retry cannot tell an attempt that published its retry from one that was lost."""
    put(database, "a")
    claim(database, A)
    bury(database, connection, A)
    before = row(connection, "a")
    assert not database.jobs.insert_job(new_job("a"), by_holder(Fence(A, 1)))
    assert not database.results.record_retry(result_of("a", "E"), Fence(A, 1))
    assert row(connection, "a") == before


@pytest.mark.parametrize("end", [State.COMPLETED, State.CANCELLED])
def test_a_retry_that_comes_too_late_revives_no_finished_job(
    database: Database, connection: Connection, end: State
):
    """insert_job runs what has finished again, even for a holder that holds it no more."""
    put(database, "a")
    claim(database, A)
    bury(database, connection, A)
    claim(database, B)
    assert database.results.finish_job(result_of("a"), end, Fence(B, 2))
    assert not database.jobs.insert_job(new_job("a"), by_holder(Fence(A, 1)))
    assert states(connection) == {"a": end}


def test_a_publish_whose_answer_was_lost_runs_the_job_once(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """The second try of insert_job finds the first one's job finished, and runs it again."""
    run = database.run
    alive(database, A)

    def run_and_cut(*transactions: Any) -> list[list[Row]]:
        monkeypatch.setattr(database, "run", run)
        run(*transactions)
        (job,) = claim(database, A)
        database.claims.settle_jobs(A, [completed(job)])
        raise psycopg.OperationalError("cut off")

    monkeypatch.setattr(database, "run", run_and_cut)
    put(database, "a")
    assert states(connection) == {"a": "completed"}


def test_a_job_that_was_cancelled_while_the_answer_to_its_claim_was_lost_never_starts(
    database: Database, connection: Connection
):
    put(database, "a")
    claim(database, A)
    assert selected(database).cancel("not needed") == ["a"]
    assert database.claims.release_unknown_jobs(A, ["celery"], []) == 1
    found = row(connection, "a")
    assert (found["state"], found["attempt"]) == ("cancelled", 0)
    assert found["errors"][-1]["message"] == "not needed"
    assert claim(database, B) == []


def test_what_a_lost_attempt_had_reported_is_not_its_result(
    database: Database, connection: Connection
):
    """A task reports PROGRESS and its worker dies: whoever reads the result gets a ValueError."""
    put(database, "a")
    claim(database, A, late=[])
    report = result_of("a", result=b'{"current": 1}')
    assert database.results.report_job(report, "PROGRESS", Fence(A, 1))
    bury(database, connection, A)
    assert row(connection, "a")["state"] == "discarded"
    assert row(connection, "a")["result"] is None


def test_the_error_of_an_earlier_attempt_is_not_that_of_the_last(
    database: Database, connection: Connection
):
    """Retried, claimed, lost: Celery reads the retry's exception instead of WorkerLostError."""
    put(database, "a")
    claim(database, A, late=[])
    database.jobs.insert_job(new_job("a"), by_holder(Fence(A, 1)))
    assert database.results.record_retry(result_of("a", "E"), Fence(A, 1))
    claim(database, A, late=[])
    bury(database, connection, A)
    assert row(connection, "a")["errors"][-1]["type"] == "WorkerLostError"
    assert row(connection, "a")["result"] is None


def test_a_retry_that_is_claimed_and_released_still_reads_retry(
    database: Database, connection: Connection
):
    """docs/reference/schema.md: until it reports something else."""
    put(database, "a")
    claim(database, A)
    database.jobs.insert_job(new_job("a"), by_holder(Fence(A, 1)))
    assert database.results.record_retry(result_of("a", "E"), Fence(A, 1))
    (again,) = claim(database, A)
    assert database.claims.settle_jobs(A, [released(again)]) == []
    assert row(connection, "a")["reported_state"] == "RETRY"


def test_a_node_that_leaves_without_an_answer_to_its_claim_leaves_nothing_behind(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """Without its row in nodes nobody ever rescues what it has claimed."""
    put(database, "a")
    node = Node(database)
    node.start()
    claim_jobs = database.claims.turn

    def claim_and_cut(*args: Any, **values: Any) -> None:
        claim_jobs(*args, **values)
        raise psycopg.OperationalError("cut off")

    monkeypatch.setattr(database.claims, "turn", claim_and_cut)
    with pytest.raises(psycopg.OperationalError):
        node.claim_jobs([Bucket("celery")], 1)
    monkeypatch.undo()
    node.close()
    assert states(connection) == {"a": "available"}


def test_what_is_held_in_the_name_of_nobody_is_rescued(database: Database, connection: Connection):
    """By whoever looks: a node that lives, and is only late, keeps what it holds."""
    put(database, "a", "b")
    claim(database, A)
    claim(database, B)
    connection.execute("DELETE FROM pgjobs.nodes WHERE node = %s", (A,))
    silence(connection, B)
    assert database.claims.rescue_jobs(dead=False) == ([], 1, 0)
    assert states(connection) == {"a": "available", "b": "executing"}
    assert row(connection, "a")["errors"][0]["message"] == "n was lost"
