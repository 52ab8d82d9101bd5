"""A commit without an answer is asked for; a run that has lost its job commits nothing.

PGJOBS_TEST_EXAMPLES=1000 looks for longer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pgjobs_celery.config import Options
from pgjobs_celery.db import commits
from pgjobs_celery.db.callers.base import callers
from pgjobs_celery.db.callers.psycopg import PsycopgCaller
from pgjobs_celery.db.commits import was_committed
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.running import Transaction
from pgjobs_celery.errors import OutcomeUnknown
from pgjobs_celery.job.outcome import Result, completed, released, requeued
from pgjobs_celery.job.rows import Bucket, Claim, ClaimKey, Fence
from pgjobs_celery.node.outcomes import report_lost
from tests.support.rows import alive, put, row

EXAMPLES = int(os.environ.get("PGJOBS_TEST_EXAMPLES", "60"))

A, B = UUID(int=1), UUID(int=2)

Connection = psycopg.Connection[dict[str, Any]]


def claim(database: Database, node: UUID = A) -> Claim:
    (found,), _ = database.claims.claim_jobs(node, "node", [Bucket("celery")], 1)
    return found


@contextmanager
def joined(database: Database, own: psycopg.Connection[Any]) -> Iterator[None]:
    """In this block our statements run over the connection."""
    scope = callers.enter(PsycopgCaller(own))
    try:
        with database.joining():
            yield
    finally:
        callers.leave(scope)


def complete(
    database: Database, own: psycopg.Connection[Any], task_id: str, fence: Fence
) -> Transaction | None:
    """The last statement of a task's own transaction."""
    result = Result(task_id, b"1", "application/json", None, None, None)
    with joined(database, own):
        return database.held.complete_job(result, fence, leaves=False)


@pytest.fixture
def own(url: str) -> Iterator[psycopg.Connection[Any]]:
    """The task's connection."""
    with psycopg.connect(parse_url(url)) as connection:
        yield connection
        with suppress(psycopg.Error):
            connection.rollback()


@pytest.fixture
def fence(database: Database, connection: Connection) -> Fence:
    """The claim on job "a"."""
    alive(database, A)
    alive(database, B)
    put(database, "a")
    return Fence(A, claim(database).attempt)


def test_a_committed_transaction_is_known_for_one(
    database: Database, own: psycopg.Connection[Any], fence: Fence
):
    transaction = complete(database, own, "a", fence)
    assert transaction is not None
    own.commit()
    assert was_committed(database, transaction, "a", fence, 10.0)


def test_so_it_is_when_the_row_has_gone_on_since(
    database: Database, own: psycopg.Connection[Any], fence: Fence, connection: Connection
):
    transaction = complete(database, own, "a", fence)
    assert transaction is not None
    own.commit()
    connection.execute("UPDATE pgjobs.jobs SET attempt = 7")
    assert was_committed(database, transaction, "a", fence, 10.0)
    connection.execute("DELETE FROM pgjobs.jobs")
    assert was_committed(database, transaction, "a", fence, 10.0)


def test_one_that_was_rolled_back_is_not(
    database: Database, own: psycopg.Connection[Any], fence: Fence
):
    transaction = complete(database, own, "a", fence)
    assert transaction is not None
    own.rollback()
    assert not was_committed(database, transaction, "a", fence, 10.0)


def test_it_is_waited_for_until_it_ends(
    database: Database, own: psycopg.Connection[Any], fence: Fence
):
    transaction = complete(database, own, "a", fence)
    assert transaction is not None
    timer = threading.Timer(0.2, own.commit)
    timer.start()
    assert was_committed(database, transaction, "a", fence, 30.0)
    timer.join()


def test_a_session_that_waits_for_its_client_is_ended(
    database: Database, own: psycopg.Connection[Any], fence: Fence, connection: Connection
):
    transaction = complete(database, own, "a", fence)
    assert transaction is not None
    # Its client never sends a COMMIT.
    assert not was_committed(database, transaction, "a", fence, 30.0)
    assert row(connection, "a")["state"] == "executing"
    with pytest.raises(psycopg.OperationalError):
        own.commit()


def test_no_other_session_is_ended(database: Database, own: psycopg.Connection[Any], fence: Fence):
    transaction = complete(database, own, "a", fence)
    assert transaction is not None
    database.held.end_session(transaction._replace(xid=str(int(transaction.xid) + 1)))
    own.commit()  # is still there


def test_the_number_that_a_server_does_not_know_is_no_commit(database: Database, fence: Fence):
    """A standby has taken over without the transaction."""
    unknown = Transaction(str(2**40), 1)
    assert not was_committed(database, unknown, "a", fence, 10.0)


def test_the_row_goes_before_the_number(
    database: Database, own: psycopg.Connection[Any], fence: Fence
):
    """There the number may be another transaction's, which was committed."""
    other = own.execute("SELECT pg_current_xact_id()::text, pg_backend_pid()").fetchone()
    own.commit()
    assert other is not None
    assert not was_committed(database, Transaction(*other), "a", fence, 10.0)


def test_a_server_that_is_away_for_too_long_leaves_it_unknown(url: str, fence: Fence):
    away = Database("host=/nonexistent dbname=none", Options())
    with pytest.raises(OutcomeUnknown, match="does not answer"):
        was_committed(away, Transaction("1000", 1), "a", fence, 0.3)


def test_a_lost_claim_completes_nothing(
    database: Database, own: psycopg.Connection[Any], fence: Fence
):
    for lost in (Fence(B, fence.attempt), Fence(A, fence.attempt + 1)):
        assert complete(database, own, "a", lost) is None
    assert complete(database, own, "a", fence) is not None
    assert complete(database, own, "a", fence) is None


def test_ends_are_timed_by_the_statement(
    database: Database, own: psycopg.Connection[Any], fence: Fence, connection: Connection
):
    """now() is when the transaction began: ends of that time may have been counted for good."""
    own.execute("SELECT 1")
    (before,) = connection.execute("SELECT clock_timestamp() AS at").fetchone().values()  # type: ignore[union-attr]
    complete(database, own, "a", fence)
    own.commit()
    assert row(connection, "a")["finished_at"] > before


def test_no_late_report_puts_the_job_back(
    database: Database, own: psycopg.Connection[Any], fence: Fence, connection: Connection
):
    """As of a worker that leaves at once, or loses the task's process, after the commit."""
    key = claim_key(connection)
    complete(database, own, "a", fence)
    own.commit()
    for how in (requeued, released, completed):
        outcome = how(key)  # type: ignore[operator]
        lost = database.claims.settle_jobs(A, [outcome])
        assert lost == [outcome]
        report_lost(database, lost)
        assert row(connection, "a")["state"] == "completed"


# assert_claim

ASSERT = "SELECT pgjobs.assert_claim(%s, %s, %s)"


def test_assert_claim_raises_where_the_claim_is_lost(
    database: Database, own: psycopg.Connection[Any], fence: Fence, connection: Connection
):
    own.execute(ASSERT, ["a", fence.attempt, None])
    own.execute(ASSERT, ["a", fence.attempt, fence.node])
    own.rollback()
    for values in (["a", fence.attempt + 1, None], ["a", fence.attempt, B], ["b", 1, None]):
        with pytest.raises(psycopg.Error) as caught:
            own.execute(ASSERT, values)
        assert caught.value.sqlstate == "PJ001"
        own.rollback()
    database.claims.settle_jobs(A, [completed(claim_key(connection))])
    with pytest.raises(psycopg.Error, match="does not hold job a"):
        own.execute(ASSERT, ["a", fence.attempt, None])


def claim_key(connection: Connection) -> ClaimKey:
    found = row(connection, "a")
    return ClaimKey(found["id"], found["attempt"])


def test_nobody_rescues_a_job_whose_claim_is_asserted(
    database: Database, own: psycopg.Connection[Any], fence: Fence, connection: Connection
):
    own.execute(ASSERT, ["a", fence.attempt, None])
    put(database, "b")
    claim(database)
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '1 h'")
    # It does not wait either: the session's client may have vanished.
    assert database.claims.rescue_jobs().returned == 1
    assert (row(connection, "a")["state"], row(connection, "b")["state"]) == (
        "executing",
        "available",
    )
    own.rollback()
    assert database.claims.rescue_jobs(dead=False).returned == 1
    assert row(connection, "a")["state"] == "available"


# The protocol


class Open(NamedTuple):
    """A run that has not ended."""

    fence: Fence
    connection: psycopg.Connection[Any]
    #: What it will be asked for; None before its outcome was written.
    transaction: Transaction | None = None


class Protocol(RuleBasedStateMachine):
    """Claims, rescues, commits, and answers that are lost, of a few jobs by two workers.

    Each run writes a row of the ledger. However it goes, the ledger has a row for each completed
    job and no other, and each run comes to know whether it was its own.
    """

    url: str
    connect: Callable[[], psycopg.Connection[Any]]
    database: Database
    look: Connection
    jobs = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, list[Open]] = {}
        #: What runs have come to know of themselves: of which attempt of which job.
        self.known: dict[tuple[str, int], bool] = {}

    @initialize()
    def begin(self) -> None:
        self.look.execute("TRUNCATE protocol_ledger")
        self.look.execute("DELETE FROM pgjobs.jobs")
        for node in (A, B):
            alive(self.database, node)
        put(self.database, *self.jobs)
        self.runs = {job: [] for job in self.jobs}

    def teardown(self) -> None:
        for runs in self.runs.values():
            for each in runs:
                each.connection.close()

    @rule(node=st.sampled_from([A, B]))
    def claim(self, node: UUID) -> None:
        claims, _ = self.database.claims.claim_jobs(node, "node", [Bucket("celery")], 1)
        for each in claims:
            task_id = self.look.execute(
                "SELECT task_id FROM pgjobs.jobs WHERE id = %s", [each.id]
            ).fetchone()
            assert task_id is not None
            connection = self.connect()
            run = Open(Fence(node, each.attempt), connection)
            self.runs[task_id["task_id"]].append(run)
            connection.execute(
                "INSERT INTO protocol_ledger VALUES (%s, %s)", [task_id["task_id"], each.attempt]
            )

    @rule(node=st.sampled_from([A, B]))
    def die(self, node: UUID) -> None:
        """A worker is silent for too long: its jobs are taken, though its runs go on."""
        self.look.execute(
            "UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '1 h' WHERE node = %s", [node]
        )
        if any(run.transaction for runs in self.runs.values() for run in runs):
            return  # the rescue would wait for a row that is locked
        self.database.claims.rescue_jobs()
        alive(self.database, node)

    @rule(job=st.sampled_from(jobs), data=st.data())
    def write_outcome(self, job: str, data: st.DataObject) -> None:
        """The last statement before the COMMIT, unless another run is at it."""
        if any(run.transaction for run in self.runs[job]):
            return
        for run in self.choose(job, data):
            transaction = complete(self.database, run.connection, job, run.fence)
            if transaction is None:
                self.end(job, run, knows=False)  # ClaimLost
            else:
                self.runs[job][self.runs[job].index(run)] = run._replace(transaction=transaction)

    @rule(
        job=st.sampled_from(jobs),
        how=st.sampled_from(["answered", "rolled back", "lost before", "unheard", "lost after"]),
    )
    def commit(self, job: str, how: str) -> None:
        for run in [each for each in self.runs[job] if each.transaction is not None]:
            assert run.transaction is not None
            if how in ("answered", "lost after"):
                run.connection.commit()
            elif how == "rolled back":
                run.connection.rollback()
            elif how == "lost before":
                run.connection.close()
            if how in ("answered", "rolled back"):
                knows = how == "answered"
            else:
                knows = was_committed(self.database, run.transaction, job, run.fence, 30.0)
            self.end(job, run, knows=knows)

    @rule(job=st.sampled_from(jobs), data=st.data())
    def fail(self, job: str, data: st.DataObject) -> None:
        """The task raises in the block; its worker puts the job back."""
        for run in self.choose(job, data):
            self.end(job, run, knows=False)
            self.settle(job, run, requeued)

    @rule(job=st.sampled_from(jobs), how=st.sampled_from([completed, requeued, released]))
    def report_late(self, job: str, how: Any) -> None:
        """The worker writes once more what it knows of a run that has committed."""
        for (each, attempt), was in self.known.items():
            if each == job and was:
                for node in (A, B):
                    self.settle(job, Open(Fence(node, attempt), self.look), how)  # type: ignore[arg-type]

    @invariant()
    def the_ledger_has_each_completed_job_once(self) -> None:
        rows = self.look.execute(
            """
            SELECT j.task_id, j.state = 'completed' AS done, j.attempt,
                   (SELECT array_agg(l.attempt) FROM protocol_ledger AS l
                    WHERE l.job = j.task_id) AS booked
            FROM pgjobs.jobs AS j
            """
        ).fetchall()
        for each in rows:
            assert (each["booked"] or []) == ([each["attempt"]] if each["done"] else [])
            for (job, attempt), was in self.known.items():
                if job == each["task_id"]:
                    assert was == (attempt in (each["booked"] or []))

    def choose(self, job: str, data: st.DataObject) -> list[Open]:
        idle = [run for run in self.runs[job] if run.transaction is None]
        return [data.draw(st.sampled_from(idle))] if idle else []

    def end(self, job: str, run: Open, *, knows: bool) -> None:
        self.known[job, run.fence.attempt] = knows
        self.runs[job].remove(run)
        run.connection.close()

    def settle(self, job: str, run: Open, how: Any) -> None:
        found = self.look.execute("SELECT id FROM pgjobs.jobs WHERE task_id = %s", [job]).fetchone()
        assert found is not None
        key = ClaimKey(found["id"], run.fence.attempt)
        if not any(each.transaction for each in self.runs[job]):
            self.database.claims.settle_jobs(run.fence.node, [how(key)])


def test_the_protocol_holds_in_any_order(
    url: str, database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(commits, "FIRST", 0.002)  # thousands of commits go unheard
    monkeypatch.setattr(commits, "PATIENCE", 1)
    connection.execute("CREATE TABLE IF NOT EXISTS protocol_ledger (job text, attempt integer)")

    class Machine(Protocol):
        pass

    Machine.url, Machine.database, Machine.look = url, database, connection
    Machine.connect = staticmethod(lambda: psycopg.connect(parse_url(url)))
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
