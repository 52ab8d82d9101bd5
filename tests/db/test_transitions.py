"""Whatever is done to jobs in whatever order, no statement breaks a CHECK, and no job is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from psycopg.rows import dict_row

from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.results import Origin
from pgjobs_celery.job import Bucket, Fence
from pgjobs_celery.outcome import Outcome, Result, error_entry
from pgjobs_celery.states import State
from tests.rows import new_job

pytestmark = pytest.mark.usefixtures("living_nodes")

NODES = st.sampled_from([UUID(int=1), UUID(int=2)])
IDS = st.sampled_from(["a", "b", "c", "d"])
QUEUES = st.sampled_from(["q1", "q2"])
ATTEMPTS = st.integers(0, 4)
FINAL = st.sampled_from([State.COMPLETED, State.DISCARDED, State.CANCELLED])
ETAS = st.sampled_from([None, -5, 600])

#: How an unfinished job may look: state, is claimed, is due later.
SHAPES = {
    ("scheduled", False, True),
    ("available", False, False),
    ("executing", True, False),
    ("retryable", False, True),
}


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[str, int, State, bool, str | None]:
    state = draw(st.sampled_from([State.AVAILABLE, State.COMPLETED, State.DISCARDED]))
    counts = draw(st.booleans()) or state is not State.AVAILABLE
    error = draw(st.none() | st.just(error_entry("E", "m")))
    return draw(IDS), draw(ATTEMPTS), state, counts, error


def result_of(task_id: str, error: bool = False) -> Result:
    entry = error_entry("E", "m") if error else None
    return Result(task_id, b"1", "application/json", "traceback", None, entry)


def make_machine(database: Database, connection: psycopg.Connection) -> type:
    """The statements as rules, over a few ids, two queues and two nodes."""

    class Life(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            connection.execute("DELETE FROM pgjobs.jobs")
            self.published: set[str] = set()

        def id_of(self, task_id: str) -> int:
            found = connection.execute(
                "SELECT id FROM pgjobs.jobs WHERE task_id = %s", (task_id,)
            ).fetchone()
            return found["id"] if found else 0

        @rule(task_id=IDS, queue=QUEUES, eta=ETAS, node=st.none() | NODES, attempt=ATTEMPTS)
        def publish(self, task_id, queue, eta, node, attempt):
            fence = Fence(node, attempt) if node else None
            database.jobs.insert_job(new_job(task_id, queue=queue, eta=eta), fence)
            self.published.add(task_id)

        @rule(node=NODES, limit=st.integers(1, 3), done=st.lists(outcomes(), max_size=4))
        def claim(self, node, limit, done):
            given = [Outcome(self.id_of(i), a, s, e, c) for i, a, s, c, e in done]
            buckets = [Bucket("q1"), Bucket("q2")]
            claims, _ = database.jobs.claim_jobs(node, "n", buckets, limit, given)
            assert len(claims) <= limit

        @rule(node=NODES, done=st.lists(outcomes(), min_size=1, max_size=4))
        def settle(self, node, done):
            given = [Outcome(self.id_of(i), a, s, e, c) for i, a, s, c, e in done]
            assert set(database.jobs.settle_jobs(node, given)) <= set(given)

        @rule(task_id=IDS, state=FINAL, node=NODES, attempt=ATTEMPTS, error=st.booleans())
        def finish(self, task_id, state, node, attempt, error):
            database.results.finish_job(result_of(task_id, error), state, Fence(node, attempt))

        @rule(task_id=IDS, node=st.none() | NODES, attempt=ATTEMPTS)
        def report(self, task_id, node, attempt):
            fence = Fence(node, attempt) if node else None
            database.results.report_job(result_of(task_id), "PROGRESS", fence)

        @rule(task_id=IDS, node=NODES, attempt=ATTEMPTS)
        def retry(self, task_id, node, attempt):
            database.results.record_retry(result_of(task_id, error=True), Fence(node, attempt))

        @rule(
            task_id=IDS,
            state=FINAL | st.sampled_from([State.EXECUTING, State.RETRYABLE]),
            error=st.booleans(),
            attempt=st.integers(1, 30),
        )
        def report_from_elsewhere(self, task_id, state, error, attempt):
            origin = Origin("task", "q1", None, None, None, attempt, "host", None)
            reported = None if state.is_final else "PROGRESS"
            database.results.upsert_result(result_of(task_id, error), state, reported, origin)

        @rule(task_id=IDS)
        def forget(self, task_id):
            finished = database.results.finished_ids([task_id])
            database.results.forget_result(task_id)
            self.published -= finished

        @rule(limit=st.integers(1, 3))
        def stage(self, limit):
            assert sum(database.jobs.stage_jobs(limit).values()) <= limit

        @rule()
        def time_passes(self):
            connection.execute(
                "UPDATE pgjobs.jobs SET due_at = now() - interval '1 s' WHERE due_at IS NOT NULL"
            )

        @rule(limit=st.integers(1, 3))
        def attempts_run_out(self, limit):
            connection.execute(
                "UPDATE pgjobs.jobs SET max_attempts = greatest(attempt, %s)", (limit,)
            )

        @rule(queue=QUEUES)
        def purge(self, queue):
            database.jobs.purge_jobs(queue)

        @rule(node=NODES, queues=st.lists(QUEUES, unique=True), known=st.lists(IDS, unique=True))
        def put_back_unknown(self, node, queues, known):
            database.jobs.release_unknown_jobs(node, queues, [self.id_of(i) for i in known])

        @invariant()
        def every_published_job_has_a_row_that_tells_the_truth(self):
            rows = connection.execute("SELECT * FROM pgjobs.jobs").fetchall()
            assert self.published <= {row["task_id"] for row in rows}
            for row in rows:
                assert 0 <= row["attempt"] <= row["max_attempts"]
                assert isinstance(row["errors"], list)
                if row["finished_at"] is None:
                    shape = row["claimed_by"] is not None, row["due_at"] is not None
                    assert (row["state"], *shape) in SHAPES
                else:
                    assert State(row["state"]).is_final
                    assert (row["claimed_by"], row["due_at"]) == (None, None)
                if row["state"] == "executing":
                    assert row["attempt"] >= 1
                if row["message"] is None:
                    # Nobody's to run: it must not be in line.
                    assert row["state"] not in {"available", "scheduled", "retryable"}

    return Life


@pytest.mark.timeout(600)
def test_any_order_of_statements_leaves_true_rows(url: str, make_examples: Callable[[], int]):
    database = Database(parse_url(url), Options())
    try:
        with psycopg.connect(parse_url(url), autocommit=True, row_factory=dict_row) as connection:
            run_state_machine_as_test(
                make_machine(database, connection),
                settings=settings(
                    max_examples=make_examples(),
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
    finally:
        database.close()


@pytest.fixture
def make_examples() -> Callable[[], int]:
    """How long to look; PGJOBS_TEST_EXAMPLES=2000 for a long look."""
    return lambda: int(os.environ.get("PGJOBS_TEST_EXAMPLES", "60"))
