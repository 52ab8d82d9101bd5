"""The audit is read by its indexes, whatever is in the tables, and pruned by age."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgjobs_celery.db.connection import prepared
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.audit import ENDING, Action

from ..conftest import Connection

#: 20,000 actions in 20,000 minutes, each on two jobs, and as many jobs.
FILL = """
INSERT INTO pgjobs.audit
  (at, action, actor, via, client, queue, jobs, task_ids, action_id, batch)
SELECT now() - n * interval '1 minute', CASE n % 3 WHEN 0 THEN 'cancel_jobs' ELSE 'move_jobs' END,
       'actor ' || n % 100, 'cli', 'c', 'q' || n % 50, 1 + n % 200, ARRAY['t' || n, 'u' || n],
       md5((n / 4)::text)::uuid, n % 4
FROM generate_series(1, 20000) AS n;
INSERT INTO pgjobs.jobs (task_id, task, queue, state, finished_at)
SELECT 't' || n, 't', 'q' || n % 50, 'completed', now() - n * interval '1 minute'
FROM generate_series(1, 20000) AS n;
ANALYZE pgjobs.audit;
ANALYZE pgjobs.jobs;
"""


@pytest.fixture
def filled(database: Database, connection: Connection) -> Iterator[Connection]:
    connection.execute(FILL)
    yield connection
    connection.execute("TRUNCATE pgjobs.audit, pgjobs.jobs")


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


def scans(connection: Connection, setting: str, name: str, **values: Any) -> set[tuple[str, str]]:
    """How the tables are read: the table, and the index or the word for all of it."""
    query = prepared(name, "pgjobs")
    literals = [sql.Literal(values[param]).as_string() for param in query.params]
    with connection.transaction():
        connection.execute(prepared(setting, "pgjobs").sql)
        connection.execute(b"PREPARE it AS " + query.sql)
        execute = f"EXPLAIN (FORMAT JSON) EXECUTE it({', '.join(literals)})"
        (plan,) = connection.execute(execute.encode()).fetchone().values()
        connection.execute("DEALLOCATE it")
    nodes = list(walk((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))
    found = {(each["Relation Name"], "all") for each in nodes if each["Node Type"] == "Seq Scan"}
    return found | {("", each["Index Name"]) for each in nodes if "Index Name" in each}


NOTHING = dict.fromkeys(
    ("actors", "actions", "queue", "schedule", "job", "since", "age", "before_id", "before_at")
)

LISTED: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"audit_at"}),
    ({"age": 3600.0}, {"audit_at"}),
    ({"since": "2026-01-01", "actors": ["actor 7"]}, {"audit_at"}),
    ({"queue": "q7"}, {"audit_queue"}),
    ({"job": "t7"}, {"audit_task_ids", "jobs_task_id_key"}),
    ({"before_id": 9, "before_at": "2026-01-01"}, {"audit_at"}),
]


@pytest.mark.parametrize(("given", "indexes"), LISTED, ids=[str([*each[0]]) for each in LISTED])
def test_actions_are_listed_by_an_index(filled, given, indexes):
    found = scans(filled, "plan_anew", "list_actions", **(NOTHING | given | {"limit": 20}))
    assert not {table for table, index in found if index == "all"}, found
    assert indexes <= {index for _, index in found}


def test_the_action_behind_a_time_is_found_by_an_index(filled):
    times = {"times": ["2026-01-01", "2026-01-02"], "actions": [*ENDING]}
    for more in ({"queue": "q7", "task_id": None}, {"queue": None, "task_id": "t7"}):
        found = scans(filled, "pin_plans", "find_action", **times, **more)
        assert found in ({("", "audit_at")}, {("", "audit_queue")})


def test_the_view_looks_up_the_actions_on_a_job_by_indexes(filled):
    (plan,) = (
        filled.execute(
            "EXPLAIN (FORMAT JSON) SELECT actions FROM pgjobs.job_details WHERE task_id = 't7'"
        )
        .fetchone()
        .values()
    )
    kinds = {(each["Node Type"], each.get("Index Name")) for each in walk(plan[0]["Plan"])}
    assert not [kind for kind, _ in kinds if kind == "Seq Scan"]
    assert {"audit_task_ids", "audit_at"} <= {index for _, index in kinds}
    plain = "EXPLAIN (FORMAT JSON) SELECT count(*) FROM pgjobs.job_details WHERE queue = 'q7'"
    assert "audit" not in str(filled.execute(plain).fetchone())  # not read unless it is selected


def test_what_is_old_is_pruned_in_batches_along_the_index(filled, database):
    found = scans(filled, "pin_plans", "prune_audit", age=60.0, limit=1000)
    assert ("", "audit_at") in found
    assert database.audit.prune_audit(60 * 19_990.5, 6) == 6
    assert database.audit.prune_audit(60 * 19_990.5, 6) == 4
    assert database.audit.prune_audit(60 * 19_990.5, 6) == 0


def test_a_row_cannot_stand_for_fewer_jobs_than_none(database):
    with pytest.raises(psycopg.errors.CheckViolation, match="audit_jobs_not_negative"):
        database.audit.record_action(Action("cancel_jobs", "a", "cli", "c"), jobs=-1)
