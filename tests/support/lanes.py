"""Lanes for tests: jobs in them, and claims from them as a worker makes them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.claims import Pending
from pgjobs_celery.db.rows.flow import LaneLook
from pgjobs_celery.job.flow import FlowRow, laned_priority
from pgjobs_celery.job.outcome import Outcome
from pgjobs_celery.job.rows import Bucket, Claim
from tests.support.rows import new_job

A, B = UUID(int=1), UUID(int=2)


def rule(database: Database, *rows: FlowRow) -> None:
    """Have these rules hold."""
    database.flow.register_flows(rows, (), {})


def put_laned(
    database: Database, lane: str, *task_ids: str, rank: int = 0, queue: str = "q", **columns: Any
) -> None:
    """Put jobs into a lane, one after the other."""
    for task_id in task_ids:
        job = new_job(
            task_id, queue=queue, lane=lane, priority=laned_priority(rank, lane), **columns
        )
        database.jobs.insert_job(job)


def look(
    database: Database,
    limit: int = 10,
    node: UUID = A,
    queue: str = "q",
    outcomes: tuple[Outcome, ...] = (),
    **columns: Any,
) -> tuple[list[Claim], LaneLook]:
    """One claim from the lanes of a queue, and the gates that it asks for made before another."""
    bucket = Bucket(queue, is_laned=True, **columns)
    turn = database.claims.turn(node, Pending(outcomes=outcomes), [bucket], limit)
    assert turn.lanes is not None
    if not turn.claims and turn.lanes.gates:
        again = bucket._replace(gates=turn.lanes.gates)
        turn = database.claims.turn(node, Pending(), [again], limit)
        assert turn.lanes is not None
    return turn.claims, turn.lanes


def claim(database: Database, limit: int = 10, node: UUID = A, queue: str = "q") -> list[str]:
    """The task ids of a claim from lanes."""
    claims, _ = look(database, limit, node, queue)
    return ids_of(database, claims)


def ids_of(database: Database, claims: list[Claim]) -> list[str]:
    """The task ids of these claims, in their order."""
    with psycopg.connect(database.conninfo) as connection:
        found = dict(connection.execute("SELECT id, task_id FROM pgjobs.jobs").fetchall())
    return [found[claim.id] for claim in claims]


def starts(database: Database, task: str | None = None) -> list[float]:
    """When each job was claimed last, by the server's clock."""
    with psycopg.connect(database.conninfo) as connection:
        return [
            float(at)
            for (at,) in connection.execute(
                "SELECT extract(epoch FROM attempted_at) FROM pgjobs.jobs"
                " WHERE attempted_at IS NOT NULL AND (%(t)s::text IS NULL OR task = %(t)s)"
                " ORDER BY 1",
                {"t": task},
            )
        ]
