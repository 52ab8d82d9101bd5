"""The plans of the statements on lanes read what they take, whatever the statistics say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.job.flow import FlowRow
from tests.db.test_plans import TABLES, Plan
from tests.support.lanes import A, rule
from tests.support.rows import alive

#: 100,000 jobs in 5,000 lanes, of which half have ended, and a gate of each key.
FILL = """
INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, priority, lane, state, finished_at)
SELECT 't' || n, 'task', 'q', 'm', 'b', 256, 'rate/task/t=' || n % 5000 || E'\\nshare=' || n % 5000,
       CASE WHEN n % 2 = 0 THEN 'completed' ELSE 'available' END,
       CASE WHEN n % 2 = 0 THEN now() END
FROM generate_series(1, 100000) AS n;
INSERT INTO pgjobs.gates (gate) SELECT 'rate/task/t=' || n FROM generate_series(1, 5000) AS n;
INSERT INTO pgjobs.lanes (queue, share, lane, pass, gates)
SELECT 'q', 'share=' || n, 'rate/task/t=' || n || E'\\nshare=' || n, n, ARRAY['rate/task/t=' || n]
FROM generate_series(1, 5000) AS n;
INSERT INTO pgjobs.rounds (queue, commons, floors, opens) VALUES ('q', '{""}', '{0}', '{0}');
INSERT INTO pgjobs.limits (queue) VALUES ('q');
"""
OURS = ("jobs", "gates", "lanes", "arrivals", "rounds", "limits", "flows", "slots")
MANY = ("jobs", "gates", "lanes", "arrivals", "rounds")

#: The statements of a claim, with values.
STATEMENTS: dict[str, dict[str, Any]] = {
    "absorb_arrivals": {"queue": "q", "limit": 1000},
    "reopen_lanes": {"queue": "q", "node": str(A), "limit": 1000},
    "claim_lanes": {
        "queue": "q", "node": str(A), "name": "n", "limit": 50, "places": None, "late": None,
    },
    "make_gates": {"gates": ["rate/task/t=1"], "space": 1},
    "find_laned": {"queues": ["q", "r"]},
    "find_freed": {"ids": [1, 2, 3], "limit": 500},
    "tell_lanes": {"ids": [1, 2, 3]},
    "lane_jobs": {"queue": "q", "flow": "q", "limit": 500},
    "weigh_lanes": {"queue": "q", "share": "share=1", "weight": 2.0},
    "open_queue": {"queue": "q"},
    "count_parked": {
        "queues": ["q"], "lanes": ["rate/task/t=1\nshare=1"], "most": 10_000,
    },
    "register_queues": {
        "queues": ["q"], "paths": ["kwargs.key"], "ageings": [60.0], "depths": [10],
        "choices": ["wait"], "waits": [5.0],
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=TABLES)
def filled(request: pytest.FixtureRequest, make_migrated: Callable[[], str]) -> Iterator[Database]:
    conninfo = parse_url(make_migrated())
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for table in MANY:
            connection.execute(f"ALTER TABLE pgjobs.{table} SET (autovacuum_enabled = off)")  # type: ignore[call-overload]
        if request.param in ("small", "stale"):
            connection.execute("INSERT INTO pgjobs.jobs (task_id, task, queue) VALUES ('', '', '')")
            connection.execute("VACUUM ANALYZE")
        if request.param in ("full", "stale"):
            connection.execute(FILL.encode())
        if request.param == "full":
            connection.execute("VACUUM ANALYZE")
    database = Database(conninfo, Options())
    alive(database, A)
    rule(database, FlowRow("rate/task/t", 100, 10.0, "kwargs.key"))
    yield database
    database.close()


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_on_lanes_scans_a_table(filled, name):
    plan = Plan(filled, name, **STATEMENTS[name])
    scanned = {node["Relation Name"] for node in plan.nodes if node["Node Type"] == "Seq Scan"}
    assert not scanned.intersection(OURS), plan


def test_a_look_ahead_reads_the_small_tables_and_what_is_new(filled):
    plan = Plan(filled, "look_ahead")
    scanned = {node["Relation Name"] for node in plan.nodes if node["Node Type"] == "Seq Scan"}
    assert scanned <= {"limits", "pauses"}, plan


def test_a_claim_from_lanes_walks_their_indexes_from_its_floors(filled):
    plan = Plan(filled, "claim_lanes", **STATEMENTS["claim_lanes"])
    read = [
        node
        for node in plan.nodes
        if node.get("Index Name") == "jobs_lanes" and "Scan" in node["Node Type"]
    ]
    # The jobs of a turn; by age, the next rank and the jobs of each; and what is next behind them.
    assert len(read) == 4, plan
    for scan in read:
        for word in ("queue", "lane", "priority", "seq"):
            assert word in scan["Index Cond"], plan
    (lanes,) = (node for node in plan.nodes if node.get("Index Name") == "lanes_open")
    for word in ("queue", "common", "pass"):
        assert word in lanes["Index Cond"], plan
