"""Rows of ``jobs`` to begin a test with, and what became of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import psycopg

from pgjobs_celery.db.database import Database
from pgjobs_celery.job.rows import Fence, NewJob, Run

JOB = NewJob(
    task_id="",
    task="tasks.add",
    queue="celery",
    root_id=None,
    parent_id=None,
    group_id=None,
    expires_at=None,
    message='{"content-type": "application/json"}',
    body=b"[[], {}, {}]",
    priority=0,
    eta=None,
)


def new_job(task_id: str = "", **columns: Any) -> NewJob:
    """A job to be put in line; ``eta`` may be given as seconds from now."""
    eta = columns.get("eta")
    if isinstance(eta, (int, float)):
        columns["eta"] = datetime.now(timezone.utc) + timedelta(seconds=eta)
    return JOB._replace(task_id=task_id or str(uuid4()), **columns)


def by_holder(fence: Fence | None, **more: Any) -> Run:
    """A job is published by its own run, which has this claim; None for no task."""
    return Run(fence, is_holder_only=fence is not None, **more)


def put(database: Database, *task_ids: str, **columns: Any) -> None:
    """Put jobs with these ids in line, one after the other."""
    for task_id in task_ids:
        database.jobs.insert_job(new_job(task_id, **columns))


def alive(database: Database, node: UUID, lease: float = 3600.0) -> None:
    """Have a node live: only such a one may claim."""
    database.nodes.beat_node(node, f"node{node.int % 1000}", [], lease)


def row(connection: psycopg.Connection[dict[str, Any]], task_id: str) -> dict[str, Any]:
    """The row of a job."""
    found = connection.execute(
        "SELECT * FROM pgjobs.jobs WHERE task_id = %s", (task_id,)
    ).fetchone()
    assert found is not None, f"no row for {task_id}"
    return found


def states(connection: psycopg.Connection[dict[str, Any]]) -> dict[str, str]:
    """The state of each job by its task id, oldest first."""
    rows = connection.execute("SELECT task_id, state FROM pgjobs.jobs ORDER BY id").fetchall()
    return {row["task_id"]: row["state"] for row in rows}
