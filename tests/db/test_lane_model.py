"""A model of lanes: whatever is published, claimed, ended, put back and lost in whichever order, no
gate lets more pass than it allows, each key keeps its order, and no job is lost or run twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from pgjobs_celery.db.database import Database
from pgjobs_celery.job.flow import FlowRow, gate_name, lane_text
from pgjobs_celery.job.outcome import completed, released, requeued
from pgjobs_celery.job.rows import Claim
from tests.support.lanes import look, put_laned
from tests.support.rows import alive

#: How many run of each key, and how many start in a period of each; of all keys together.
KEYED, COMMON = 2, 5
RATED, PERIOD = 3, 10.0
BUCKET = 2
NODES = [UUID(int=number) for number in (1, 2, 3)]
QUEUES = ("q", "r")
KEYS = ("a", "b", "c")
FLOWS = (
    FlowRow("running/task/t", KEYED, by="kwargs.key"),
    FlowRow("running/common", COMMON),
    FlowRow("rate/task/t", RATED, PERIOD, "kwargs.key"),
    FlowRow("rate/bucket", BUCKET, PERIOD, algorithm="bucket"),
)


class Lanes(RuleBasedStateMachine):
    """Two queues that share gates, three workers, time that passes when it is told to."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.connection = psycopg.connect(
            self.database.conninfo, autocommit=True, row_factory=dict_row
        )
        self.count = 0
        self.held: dict[UUID, list[Claim]] = defaultdict(list)
        #: When each job began, by the clock of the model: gate and time.
        self.passed: dict[str, list[float]] = defaultdict(list)
        self.clock = 0.0
        self.gates: dict[UUID, dict[str, tuple[str, ...]]] = defaultdict(dict)

    @initialize()
    def begin(self) -> None:
        tables = "jobs, flows, gates, lanes, arrivals, rounds, weights, limits, slots, nodes"
        for table in tables.split(", "):
            self.connection.execute(f"DELETE FROM pgjobs.{table}")
        self.database.flow.register_flows(FLOWS, (), {})
        for node in NODES:
            alive(self.database, node)

    @rule(
        queue=st.sampled_from(QUEUES), key=st.sampled_from(KEYS), number=st.integers(1, 4),
        rank=st.integers(0, 2),
        flows=st.sets(st.sampled_from([row.flow for row in FLOWS])), is_fair=st.booleans(),
    )  # fmt: skip
    def publish(self, queue, key, number, rank, flows, is_fair) -> None:
        by = {row.flow: row.by for row in FLOWS}
        gates = [gate_name(flow, key if by[flow] else None) for flow in flows]
        lane = lane_text(gates, key if is_fair else None)
        if lane is None:
            return
        for _ in range(number):
            self.count += 1
            put_laned(self.database, lane, f"j{self.count:05}", rank=rank, queue=queue)

    @rule(node=st.sampled_from(NODES), queue=st.sampled_from(QUEUES), limit=st.integers(1, 12))
    def take(self, node, queue, limit) -> None:
        waiting = self.waiting(queue)
        claims, _ = look(self.database, limit, node, queue)
        assert len(claims) <= limit
        lanes = {
            row["id"]: row["lane"]
            for row in self.connection.execute("SELECT id, lane FROM pgjobs.jobs")
        }
        taken: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for claim in claims:
            self.held[node].append(claim)
            taken[lanes[claim.id]].append((claim.priority, claim.seq))
            for gate in lanes[claim.id].split("\n"):
                if gate.startswith("rate/"):
                    self.passed[gate].append(self.clock)
        for lane, places in taken.items():
            # From the head of the lane, in order.
            assert sorted(places) == waiting[lane][: len(places)]

    @rule(node=st.sampled_from(NODES), how=st.sampled_from([completed, released, requeued]))
    def end(self, node, how) -> None:
        if self.held[node]:
            claim = self.held[node].pop(0)
            assert self.database.claims.settle_jobs(node, [how(claim)]) == []

    @rule(node=st.sampled_from(NODES))
    def crash(self, node) -> None:
        self.connection.execute(
            "UPDATE pgjobs.nodes SET heartbeat_at = '-infinity' WHERE node = %s", (node,)
        )
        self.connection.execute(
            "UPDATE pgjobs.jobs SET acks_late = true WHERE claimed_by = %s", (node,)
        )
        self.database.claims.rescue_jobs(dead=False)
        alive(self.database, node)
        self.held[node].clear()

    @rule(node=st.sampled_from(NODES))
    def lose_an_answer(self, node) -> None:
        known = [claim.id for claim in self.held[node][1:]]
        self.database.claims.release_unknown_jobs(node, QUEUES, known)
        self.held[node] = self.held[node][1:]

    @rule(key=st.sampled_from(KEYS), weight=st.floats(0.1, 10), queue=st.sampled_from(QUEUES))
    def weigh(self, key, weight, queue) -> None:
        self.database.flow.weigh_lanes(queue, key, weight)

    @rule(seconds=st.floats(0.1, 11))
    def wait(self, seconds) -> None:
        """As if so much time had passed."""
        self.clock += seconds
        self.connection.execute(
            "UPDATE pgjobs.gates SET turn = turn + 1, full_at = full_at - %(s)s,"
            " times = ARRAY(SELECT t - %(s)s FROM unnest(times) AS t)",
            {"s": seconds},
        )
        self.connection.execute(
            "UPDATE pgjobs.lanes SET shut_until = shut_until - %s * interval '1 second'"
            " WHERE shut_until < 'infinity'",
            (seconds,),
        )
        self.connection.execute("UPDATE pgjobs.rounds SET turn = turn + 1, reopened = '-infinity'")

    @rule()
    def prune(self) -> None:
        self.database.flow.prune_gates(100)

    @precondition(lambda self: self.count)
    @rule(queue=st.sampled_from(QUEUES))
    def touch(self, queue) -> None:
        """A hand that sets a job back in its lane."""
        self.connection.execute("UPDATE pgjobs.jobs SET lane = lane WHERE queue = %s", (queue,))

    def waiting(self, queue: str) -> dict[str, list[tuple[int, int]]]:
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row in self.connection.execute(
            "SELECT lane, priority & 255 AS rank, seq FROM pgjobs.jobs"
            " WHERE queue = %s AND state = 'available' ORDER BY priority, seq",
            (queue,),
        ):
            found[row["lane"]].append((row["rank"], row["seq"]))
        return found

    @invariant()
    def no_more_run_than_may(self) -> None:
        running: Counter[str] = Counter()
        for row in self.connection.execute(
            "SELECT lane FROM pgjobs.jobs WHERE state = 'executing'"
        ):
            running.update(gate for gate in row["lane"].split("\n") if gate.startswith("running/"))
        assert running.pop("running/common", 0) <= COMMON
        assert all(count <= KEYED for count in running.values()), running

    @invariant()
    def no_more_start_in_a_period_than_may(self) -> None:
        for gate, times in self.passed.items():
            if gate == "rate/bucket":
                for first, begin in enumerate(times):
                    for last in range(first, len(times)):
                        span = times[last] - begin
                        # What the real clock adds to the model's is less than this.
                        most = BUCKET + (span + 5) * BUCKET / PERIOD
                        assert last - first + 1 <= most
                continue
            for begin in times:
                assert sum(1 for at in times if begin <= at < begin + PERIOD - 5) <= RATED, gate

    def teardown(self) -> None:
        """Everything ends, once the gates are open."""
        try:
            for node in NODES:
                for claim in self.held[node]:
                    self.database.claims.settle_jobs(node, [completed(claim)])
            self.database.flow.register_flows((), [row.flow for row in FLOWS], {})
            self.connection.execute(
                "UPDATE pgjobs.lanes SET shut_until = now() WHERE shut_until IS NOT NULL"
            )
            self.connection.execute(
                "UPDATE pgjobs.rounds SET turn = turn + 1, reopened = '-infinity'"
            )
            for queue in QUEUES:
                for _ in range(self.count + 10):
                    claims, found = look(self.database, 50, NODES[0], queue)
                    self.database.claims.settle_jobs(NODES[0], [completed(each) for each in claims])
                    if not claims and not found.is_full:
                        break
            left = self.connection.execute(
                "SELECT state, count(*) AS n FROM pgjobs.jobs GROUP BY state"
            ).fetchall()
            assert {row["state"] for row in left} <= {"completed", "discarded"}, left
        finally:
            self.connection.close()


@pytest.fixture
def lanes(database: Database) -> type[Lanes]:
    class Bound(Lanes):
        pass

    Bound.database = database
    return Bound


def test_lanes_behave_as_their_model(lanes: Any) -> None:
    run_state_machine_as_test(
        lanes,
        settings=settings(
            max_examples=25, stateful_step_count=30, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
