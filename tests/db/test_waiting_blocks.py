"""100,000 jobs that sleep or wait for a signal cost those of other queues not one block more."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from pgjobs_celery.db.connection import prepared
from pgjobs_celery.db.database import Database

from ..conftest import Connection
from ..support.rows import alive
from .test_plans import CLAIM, A, put_many

WAITING = 100_000

#: Half of them sleep, half wait for a signal without a timeout: as their last runs have left them.
WAIT = """
WITH put AS (
  INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, state, due_at, scheduled_at, meta)
  SELECT 'w' || n, 'order', 'orders', 'm', 'b', 'scheduled', at, at, '{"snoozed": 1}'
  FROM generate_series(1, %s) AS n,
       LATERAL (
         SELECT now() + CASE WHEN n %% 2 = 0 THEN interval '1 day' ELSE interval '100 years' END
       ) AS t (at)
  RETURNING id
)
INSERT INTO pgjobs.waits (job, step, name, key, until, is_new)
SELECT id, 'step', CASE WHEN id %% 2 = 0 THEN 'approved' END,
       CASE WHEN id %% 2 = 0 THEN 'k' || id END,
       CASE WHEN id %% 2 = 1 THEN now() + interval '1 day' END, false
FROM put
"""

#: The statements of a worker's turn, with what they are asked for.
TURN: dict[str, dict[str, Any]] = {
    "claim_jobs": CLAIM | {"limit": 50},
    "stage_jobs": {"limit": 1000},
    "next_due": {},
    "wake_waiting": {"limit": 1000},
}


def blocks(database: Database, statement: str, **values: Any) -> int:
    """How many blocks a statement touches, in a transaction that is rolled back."""
    query = prepared(statement, "pgjobs")
    literals = [sql.Literal(values[param]).as_string() for param in query.params]
    with psycopg.connect(database.conninfo) as connection:
        connection.execute(prepared("pin_plans", "pgjobs").sql)
        connection.execute(b"PREPARE it AS " + query.sql)
        execute = f"EXECUTE it({', '.join(literals)})" if literals else "EXECUTE it"
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute}".encode()
        found = connection.execute(explain).fetchone()
        connection.rollback()
    assert found is not None
    plan = found[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def turn(database: Database, connection: Connection) -> dict[str, int]:
    """The blocks of each statement of a turn."""
    # What earlier looks have left dead is no part of it.
    connection.execute("VACUUM ANALYZE pgjobs.jobs, pgjobs.waits, pgjobs.signals")
    return {name: blocks(database, name, **values) for name, values in TURN.items()}


def test_a_claim_beside_many_that_wait_reads_no_more(database: Database, connection: Connection):
    alive(database, A)
    put_many(connection, 2000)
    before = turn(database, connection)
    connection.execute(WAIT, [WAITING])
    after = turn(database, connection)
    # 346 and 346; a look at what is due walks down an index that has grown two levels.
    assert all(after[name] <= before[name] + 5 for name in TURN), (before, after)
