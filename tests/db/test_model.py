"""Workers share the rows in any order of statements, and every row is what the model says.

PGJOBS_TEST_EXAMPLES=1000 looks for longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.results import Origin
from pgjobs_celery.db.sql import statement
from pgjobs_celery.job.outcome import (
    Outcome,
    Result,
    completed,
    discarded,
    error_entry,
    released,
    requeued,
)
from pgjobs_celery.job.rows import Bucket, Claim, Fence, NewJob
from pgjobs_celery.job.states import FINAL, State
from tests.db.model import LEASE, Job, Model, Token
from tests.support.rows import by_holder, new_job

EXAMPLES = int(os.environ.get("PGJOBS_TEST_EXAMPLES", "100"))

Row = dict[str, Any]

NODES = [UUID(int=1), UUID(int=2), UUID(int=3)]
IDS = ["a", "b", "c", "d", "e", "f", "g", "h"]
QUEUES = ["q1", "q2"]
PRIORITIES = [0, 1, 2]
LATE = ["late"]

a_node = st.sampled_from(NODES)
an_id = st.sampled_from(IDS)
a_queue = st.sampled_from(QUEUES)
a_priority = st.sampled_from(PRIORITIES)
a_task = st.sampled_from(["early", *LATE])
a_final_state = st.sampled_from(sorted(FINAL))
some_queues = st.sampled_from([QUEUES, QUEUES[::-1], QUEUES[:1], QUEUES[1:]])

#: How an attempt may end, as the worker's main process writes it.
ENDS: dict[str, Callable[[Token, Result], Outcome]] = {
    "returned": completed,
    "returned, result ignored": lambda token, _: completed(token),
    "failed": lambda token, _: discarded(token, error_entry("Failed", "")),
    "revoked": lambda token, _: Outcome(
        token.id, token.attempt, State.CANCELLED, error_entry("Revoked", "")
    ),
    "never started": lambda token, _: released(token),
    "put back": lambda token, _: requeued(token),
}
an_end = st.sampled_from(list(ENDS))


class Workers(RuleBasedStateMachine):
    """Three workers, eight task ids, two queues. A rule runs one statement, or two at once, in the
    database and in the model, and both must answer alike."""

    database: ClassVar[Database]
    connection: ClassVar[psycopg.Connection[Row]]
    #: For a transaction that stays open while others work.
    other: ClassVar[psycopg.Connection[Row]]

    def __init__(self) -> None:
        super().__init__()
        self.connection.execute("DELETE FROM pgjobs.jobs")
        self.connection.execute("DELETE FROM pgjobs.nodes")
        self.model = Model()
        #: Every claim that a worker ever got.
        self.past: list[Token] = []
        #: Attempts that have published their retry and are still to say why.
        self.retrying: list[Token] = []
        #: The rows as the last step left them.
        self.rows: dict[str, Row] = {}
        self.count = 0

    @property
    def has_ready(self) -> bool:
        return bool(self.model.find_ready(plain(QUEUES), 1))

    @property
    def strangers(self) -> list[Token]:
        """Who may try to write without a claim: it was lost, or is another's.

        A claim that ended and then came to the same node with the same number again is left out:
        only the job's id tells the two.
        """
        near = [
            stranger
            for token in self.model.held
            for stranger in (
                *(token._replace(node=node) for node in NODES),
                token._replace(attempt=token.attempt - 1),
                token._replace(attempt=token.attempt + 1),
            )
        ]
        return [token for token in [*self.past[-8:], *near] if not self.model.holds(token)]

    # -- publishing ------------------------------------------------------------------------------

    @rule(
        jobs=st.lists(
            st.tuples(an_id, a_task, a_queue, a_priority),
            min_size=1,
            max_size=5,
            unique_by=lambda job: job[0],
        ),
        eta=st.sampled_from([None] * 5 + [-50, 50, 150]),
        limit=st.sampled_from([None, 1, 2]),
        parent_id=st.sampled_from([None, "parent"]),
        is_repeated=st.booleans(),
    )
    def publish(self, jobs, eta, limit, parent_id, is_repeated):
        for task_id, task, queue, priority in jobs:
            new = self.new_job(task_id, task, queue, priority, eta, parent_id)
            if self.insert(new, eta, None, is_repeated) and limit:
                self.model.jobs[task_id].max_attempts = limit
                self.connection.execute(
                    "UPDATE pgjobs.jobs SET max_attempts = %s WHERE task_id = %s", (limit, task_id)
                )

    @rule(data=st.data(), queue=a_queue, eta=st.sampled_from([None, 50]))
    @precondition(lambda self: self.model.held)
    def publish_a_retry(self, data, queue, eta):
        token = self.draw_held(data)
        assert self.insert(self.new_job(token.task_id, "late", queue, 1, eta), eta, token.fence)
        self.retrying.append(token)

    @rule(data=st.data())
    @precondition(lambda self: self.retrying)
    def say_why_it_is_retried(self, data):
        token = data.draw(st.sampled_from(self.retrying))
        self.retrying.remove(token)
        result = self.result_of(token, "Retried")
        expected = self.model.record_retry(result, token.fence)
        assert self.database.results.record_retry(result, token.fence) is expected

    def new_job(
        self,
        task_id: str,
        task: str,
        queue: str,
        priority: int,
        eta: float | None,
        parent_id: str | None = None,
    ) -> NewJob:
        self.count += 1
        return new_job(
            task_id,
            task=task,
            queue=queue,
            priority=priority,
            eta=eta,
            parent_id=parent_id,
            message=f"[{self.count}]",
        )

    def insert(
        self, new: NewJob, eta: float | None, holder: Fence | None, is_repeated: bool = False
    ) -> bool:
        expected = self.model.insert_job(new, eta, holder, is_repeated)
        found = self.database.jobs.insert_job(new, by_holder(holder, is_repeated=is_repeated))
        assert found is expected
        return expected

    # -- claiming --------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        node=a_node,
        beats=st.sampled_from([True, True, False]),
        queues=some_queues,
        limit=st.integers(1, 4),
    )
    @precondition(lambda self: self.has_ready)
    def claim(self, data, node, beats, queues, limit):
        if beats:
            self.beat(node)
        buckets = self.draw_buckets(data, queues)
        self.take(node, buckets, limit)

    @rule(
        data=st.data(),
        nodes=st.permutations(NODES),
        queues=st.tuples(some_queues, some_queues),
        limits=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        meanwhile=st.sampled_from(["claim", "claim", "purge", "stage", "rescue"]),
        commits=st.booleans(),
    )
    @precondition(lambda self: self.has_ready)
    def claim_while_another_claims(self, data, nodes, queues, limits, meanwhile, commits):
        """Nobody waits for a claim that is still open, or gets what stands in it."""
        first, second = nodes[:2]
        for node in first, second:
            self.beat(node)
        buckets = self.draw_buckets(data, queues[0])
        before = self.model.copy_jobs()
        expected = self.model.claim_jobs(first, buckets, limits[0], LATE)
        with self.open_claim(first, buckets, limits[0], commits) as claims:
            assert in_brief(claims) == in_brief(expected)
            if meanwhile == "claim":
                taken = self.take(second, plain(queues[1]), limits[1])
                assert not {claim.id for claim in claims} & {token.id for token in taken}
            elif meanwhile == "rescue":
                # Its lease ends while the claim is on its way.
                self.silence(first)
                self.rescue(spared=[first])
            elif meanwhile == "stage":
                self.stage()
            else:
                self.purge(queues[1][0])
        if commits:
            self.remember(first, expected)
        else:
            self.model.jobs.update({job.task_id: before[job.task_id] for job in expected})

    def take(
        self, node: UUID, buckets: list[Bucket], limit: int, *outcomes: Outcome
    ) -> list[Token]:
        """Settle and claim, in one transaction."""
        lost = self.model.settle_jobs(node, outcomes)
        expected = self.model.claim_jobs(node, buckets, limit, LATE)
        claims, found = self.database.claims.claim_jobs(
            node, "n", buckets, limit, outcomes, late=LATE
        )
        assert found == lost
        assert in_brief(claims) == in_brief(expected)
        return self.remember(node, expected)

    def remember(self, node: UUID, jobs: list[Job]) -> list[Token]:
        taken = [Token(job.task_id, job.id, node, job.attempt) for job in jobs]
        self.past += taken
        return taken

    @contextmanager
    def open_claim(
        self, node: UUID, buckets: list[Bucket], limit: int, commits: bool
    ) -> Iterator[list[Claim]]:
        """A claim whose transaction ends with the block."""
        values = {
            "node": node, "name": "n", "late": LATE, "limit": limit,
            "queues": [bucket.queue for bucket in buckets],
            "lowest": [bucket.lowest for bucket in buckets],
            "highest": [bucket.highest for bucket in buckets],
            "floors": [bucket.floor for bucket in buckets],
            "places": [bucket.places for bucket in buckets], "locked": [],
            "is_alone": False,
        }  # fmt: skip
        with self.other.transaction(force_rollback=not commits):
            self.other.execute(statement("pin_plans", "pgjobs"))
            rows = self.other.execute(statement("claim_jobs", "pgjobs"), values)
            claims = [Claim(*row.values()) for row in rows]
            order = [bucket.queue for bucket in buckets]
            claims.sort(key=lambda claim: (claim.priority, order.index(claim.queue), claim.seq))
            yield claims

    # -- the end of an attempt -------------------------------------------------------------------

    @rule(data=st.data(), end=an_end)
    @precondition(lambda self: self.model.held)
    def settle(self, data, end):
        token = self.draw_held(data)
        outcome = ENDS[end](token, self.result_of(token))
        assert self.model.settle_jobs(token.node, [outcome]) == []
        assert self.database.claims.settle_jobs(token.node, [outcome]) == []

    @rule(data=st.data(), node=a_node, queues=some_queues, limit=st.integers(0, 3))
    @precondition(lambda self: self.past)
    def settle_several_with_the_next_claim(self, data, node, queues, limit):
        """The node's own and others', of this attempt and of another: each under its own fence."""
        anybody = st.sampled_from([*self.model.held, *self.strangers])
        tokens = data.draw(st.lists(anybody, max_size=4, unique_by=lambda token: token.id))
        ends = [data.draw(an_end) for _ in tokens]
        outcomes = [
            ENDS[end](token, self.result_of(token)) for end, token in zip(ends, tokens, strict=True)
        ]
        self.take(node, plain(queues), limit, *outcomes)

    @rule(
        data=st.data(),
        state=a_final_state | st.just(None),
        error=st.sampled_from([None, "Failed"]),
    )
    @precondition(lambda self: self.model.held)
    def finish_or_report(self, data, state, error):
        """As the process does that runs the task, with its result."""
        token = self.draw_held(data)
        result = self.result_of(token, error)
        if state is None:
            assert self.model.report_job(result, "PROGRESS", token.fence)
            assert self.database.results.report_job(result, "PROGRESS", token.fence)
        else:
            assert self.model.finish_job(result, state, token.fence)
            assert self.database.results.finish_job(result, state, token.fence)

    @rule(data=st.data(), end=an_end, state=a_final_state)
    @precondition(lambda self: self.strangers)
    def write_without_a_claim(self, data, end, state):
        """Nothing changes, and whoever tries it learns that it was in vain."""
        token = data.draw(st.sampled_from(self.strangers))
        jobs, results = self.database.jobs, self.database.results
        result = self.result_of(token, "Stale")
        outcome = ENDS[end](token, result)
        assert self.database.claims.settle_jobs(token.node, [outcome]) == [outcome]
        assert not results.finish_job(result, state, token.fence)
        assert not results.report_job(result, "STARTED", token.fence)
        assert not jobs.insert_job(new_job(token.task_id, message="{}"), by_holder(token.fence))
        # A retry that was published before may say why, once.
        if not self.model.takes_retry(token.task_id, token.fence):
            assert not results.record_retry(result, token.fence)

    # -- nodes and time --------------------------------------------------------------------------

    @initialize()
    def all_nodes_live(self):
        for node in NODES:
            self.beat(node)

    @rule(data=st.data(), how=st.sampled_from(["falls silent", "is rescued", "hears no answer"]))
    @precondition(lambda self: self.model.held)
    def a_node_fails(self, data, how):
        node = self.draw_held(data).node
        if how == "hears no answer":
            self.release_unknown(data, node)
        else:
            self.silence(node)
            if how == "is rescued":
                self.rescue()

    @rule(
        seconds=st.sampled_from([20, 100, 200]), then=st.sampled_from(["stage", "rescue", "beat"])
    )
    @precondition(lambda self: self.rows)
    def time_passes(self, seconds, then):
        """The database's clock decides: what it is compared with moves into the past."""
        self.model.now += seconds
        by = {"by": timedelta(seconds=seconds)}
        self.connection.execute(
            "UPDATE pgjobs.jobs SET due_at = due_at - %(by)s, finished_at = finished_at - %(by)s",
            by,
        )
        self.connection.execute(
            "UPDATE pgjobs.nodes"
            " SET heartbeat_at = heartbeat_at - %(by)s, steady_since = steady_since - %(by)s",
            by,
        )
        if then == "beat":
            self.beat(NODES[0])
        elif then == "stage":
            self.stage()
        else:
            self.rescue()

    def beat(self, node: UUID) -> None:
        name = f"node{node.int}"
        expected = self.model.beat_node(node, name)
        beat = self.database.nodes.beat_node(node, name, [], LEASE)
        assert beat.others_are_dead is expected

    def silence(self, node: UUID) -> None:
        """As if it had not been heard of for twice its lease."""
        self.model.silence(node)
        self.connection.execute(
            "UPDATE pgjobs.nodes SET heartbeat_at = now() - 2 * lease * interval '1 second'"
            " WHERE node = %s",
            (node,),
        )

    def rescue(self, spared: Collection[UUID] = ()) -> None:
        found, expected = self.database.claims.rescue_jobs(), self.model.rescue_jobs(spared)
        assert sorted(found.nodes) == sorted(expected.nodes)
        assert found[1:] == expected[1:]

    def stage(self) -> None:
        assert self.database.claims.stage_jobs(2) == self.model.stage_jobs(2)

    def release_unknown(self, data: st.DataObject, node: UUID) -> None:
        queues = data.draw(some_queues)
        held = [token.id for token in self.model.held if token.node == node]
        known = [id for id in held if data.draw(st.booleans())]
        expected = self.model.release_unknown_jobs(node, queues, known)
        assert self.database.claims.release_unknown_jobs(node, queues, known) == expected

    # -- what others do now and then -------------------------------------------------------------

    @rule(
        data=st.data(),
        what=st.sampled_from(
            ["leave", "prune", "purge", "forget", "report", "store", "cancel", "repeat", "spend"]
        ),
    )
    @precondition(lambda self: self.model.held or not self.has_ready)
    def interfere(self, data, what):
        if what == "leave":
            self.leave(data.draw(a_node))
        elif what == "prune":
            self.prune(data.draw(a_final_state), data.draw(st.sampled_from([-10, 50])))
        elif what == "purge":
            self.purge(data.draw(a_queue))
        elif what == "forget":
            task_id = data.draw(an_id)
            self.model.forget_result(task_id)
            self.database.results.forget_result(task_id)
        elif what == "report":
            result = self.result_of(data.draw(an_id))
            expected = self.model.report_job(result, "PROGRESS", None)
            assert self.database.results.report_job(result, "PROGRESS", None) is expected
        elif what == "store":
            self.store(data)
        else:
            getattr(self, f"{what}_by_hand")(data.draw(a_task))

    def leave(self, node: UUID) -> None:
        if not any(token.node == node for token in self.model.held):
            self.model.delete_node(node)
            self.database.nodes.delete_node(node)

    def prune(self, state: State, max_age: float, limit: int = 2) -> None:
        old = self.model.find_old(state, max_age)
        number, _ = self.database.claims.prune_jobs(state, max_age, None, None, limit)
        assert number == min(len(old), limit)
        left = self.read_rows()
        kept = [job for job in old if job.task_id in left]
        gone = [job for job in old if job.task_id not in left]
        # Which of those that finished at the same time goes first is nobody's business.
        assert all(pruned.finished <= job.finished for pruned in gone for job in kept)
        for job in gone:
            del self.model.jobs[job.task_id]

    def purge(self, queue: str) -> None:
        assert self.database.jobs.purge_jobs(queue, batch=2) == self.model.purge_jobs(queue)

    def store(self, data: st.DataObject) -> None:
        """A result that no claim stands behind."""
        state = data.draw(a_final_state | st.sampled_from([State.EXECUTING, State.RETRYABLE]))
        result = self.result_of(data.draw(an_id), data.draw(st.sampled_from([None, "Elsewhere"])))
        reported = None if state.is_final else "PROGRESS"
        queue, attempt = data.draw(a_queue), data.draw(st.sampled_from([1, 30]))
        origin = Origin("elsewhere", queue, None, None, None, attempt, "host", None)
        expected = self.model.upsert_result(result, state, reported, queue, attempt)
        found = self.database.results.upsert_result(result, state, reported, origin)
        assert found is expected

    def cancel_by_hand(self, task: str) -> None:
        """As docs/how-to/migrate-from-redis.md has it."""
        self.model.cancel_by_hand(task)
        self.connection.execute(
            "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now(), due_at = NULL"
            " WHERE task = %s AND finished_at IS NULL AND claimed_by IS NULL",
            (task,),
        )

    def repeat_by_hand(self, task: str) -> None:
        """As docs/how-to/migrate-from-redis.md has it."""
        self.model.repeat_by_hand(task)
        self.connection.execute(
            "UPDATE pgjobs.jobs"
            " SET state = 'available', finished_at = NULL, max_attempts = max_attempts + 1"
            " WHERE state = 'discarded' AND errors -> -1 ->> 'type' = 'WorkerLostError'"
            " AND task = %s",
            (task,),
        )

    def spend_by_hand(self, task: str) -> None:
        """As if the job had been delivered as often as it may be."""
        self.model.spend_by_hand(task)
        self.connection.execute(
            "UPDATE pgjobs.jobs SET max_attempts = greatest(attempt, 1)"
            " WHERE task = %s AND finished_at IS NULL",
            (task,),
        )

    # -- what holds after each step --------------------------------------------------------------

    @invariant()
    def every_row_is_as_the_model_has_it(self):
        rows = self.read_rows()
        self.learn_places(rows)
        found = {task_id: row_in_brief(row) for task_id, row in rows.items()}
        assert found == {task_id: job_in_brief(job) for task_id, job in self.model.jobs.items()}
        self.check_history(rows)
        self.rows = rows
        nodes = self.connection.execute("SELECT node FROM pgjobs.nodes").fetchall()
        assert {row["node"] for row in nodes} == set(self.model.nodes)

    def read_rows(self) -> dict[str, Row]:
        """All of them, in line."""
        rows = self.connection.execute("SELECT * FROM pgjobs.jobs ORDER BY seq").fetchall()
        return {row["task_id"]: row for row in rows}

    def learn_places(self, rows: dict[str, Row]) -> None:
        """Both have the same line, and from now on the same numbers for the places in it."""
        line = sorted(self.model.jobs.values(), key=lambda job: job.place)
        assert [job.task_id for job in line] == list(rows)
        for job in line:
            job.place = rows[job.task_id]["seq"]
            job.id = job.id or rows[job.task_id]["id"]

    def check_history(self, rows: dict[str, Row]) -> None:
        """What must not happen, whatever the model says."""
        for task_id, row in rows.items():
            assert (row["claimed_by"] is not None) == (row["state"] == "executing")
            before = self.rows.get(task_id)
            if before and before["id"] == row["id"] and task_id not in self.model.given_back:
                assert row["attempt"] >= before["attempt"]
                if before["finished_at"] and row["finished_at"]:
                    # A retry may say why after its job has finished; nothing else moves any more.
                    errors = len(before["errors"])
                    changed = {"errors": row["errors"][:errors], "finished_at": None}
                    assert {**row, **changed} == {**before, "finished_at": None}
        self.model.given_back.clear()

    # -- for the rules ---------------------------------------------------------------------------

    def draw_held(self, data: st.DataObject) -> Token:
        return data.draw(st.sampled_from(self.model.held))

    def draw_buckets(self, data: st.DataObject, queues: list[str]) -> list[Bucket]:
        """The whole line of each queue, or one priority after the other, from a floor on."""
        floors = st.sampled_from([0, *sorted(job.place for job in self.model.jobs.values())])
        kind = data.draw(st.sampled_from(["plain", "plain", "floors", "priorities"]))
        if kind == "plain":
            return plain(queues)
        if kind == "floors":
            return [Bucket(queue, floor=data.draw(floors)) for queue in queues]
        return [
            Bucket(queue, priority, priority, data.draw(floors))
            for priority in PRIORITIES
            for queue in queues
        ]

    def result_of(self, what: Token | str, error: str | None = None) -> Result:
        self.count += 1
        task_id = what.task_id if isinstance(what, Token) else what
        entry = error_entry(error, "") if error else None
        payload = str(self.count).encode()
        return Result(task_id, payload, "application/json", None, None, entry)


def plain(queues: list[str]) -> list[Bucket]:
    return [Bucket(queue) for queue in queues]


def in_brief(claims: list[Claim] | list[Job]) -> list[tuple[Any, ...]]:
    """Claims as they are compared, and in their order."""
    return [
        (
            claim.id, claim.attempt, claim.queue, claim.priority, claim.redelivered, claim.message,
            claim.seq if isinstance(claim, Claim) else claim.place,
        )
        for claim in claims
    ]  # fmt: skip


def row_in_brief(row: Row) -> Row:
    """A row as it is compared. What it reported counts until it has finished."""
    columns = (
        "id", "task", "queue", "priority", "seq", "message", "state", "attempt", "max_attempts",
        "claimed_by", "redelivered", "result",
    )  # fmt: skip
    is_final = row["finished_at"] is not None
    return {
        **{column: row[column] for column in columns},
        "is_due_later": row["due_at"] is not None,
        "is_final": is_final,
        "reported_state": None if is_final else row["reported_state"],
        "errors": [(error["type"], error["attempt"]) for error in row["errors"]],
    }


def job_in_brief(job: Job) -> Row:
    """What the model says of that row."""
    is_final = job.finished is not None
    return {
        "id": job.id, "task": job.task, "queue": job.queue, "priority": job.priority,
        "seq": job.place, "message": job.message, "state": job.state, "attempt": job.attempt,
        "max_attempts": job.max_attempts, "claimed_by": job.holder,
        "redelivered": job.redelivered, "result": job.result,
        "is_due_later": job.due is not None, "is_final": is_final,
        "reported_state": None if is_final else job.reported, "errors": job.errors,
    }  # fmt: skip


@pytest.mark.timeout(120 + EXAMPLES)
def test_workers_in_any_order_do_to_the_rows_what_the_model_says(url: str):
    # Where one would wait for another, this thread would wait for itself.
    conninfo = make_conninfo(parse_url(url), options="-c lock_timeout=5s")
    database = Database(conninfo, Options())
    connect = {"conninfo": conninfo, "autocommit": True, "row_factory": dict_row}
    try:
        with psycopg.connect(**connect) as connection, psycopg.connect(**connect) as other:
            here = {"database": database, "connection": connection, "other": other}
            run_state_machine_as_test(
                type("Workers", (Workers,), here),
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=40,
                    deadline=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
    finally:
        database.close()
