"""Rows of jobs that have failed, and whatever a hand may write into one."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import psycopg

from pgjobs_celery.job.outcome import error_entry

NOW = datetime.now(timezone.utc)

TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/{}/app/tasks.py", line {}, in {}\n'

#: Whatever a hand may write into ``errors``.
ODD = [
    "[]", "[7]", "[null]", '["text"]', "[[1, 2]]", "[{}]", '[{"type": null, "message": {"a": 1}}]',
    '[{"type": "<script>alert(1)</script>", "message": "\\u202e right to left"}]',
    json.dumps([{"type": "E", "message": "m" * 10_000_000}]),
    '[{"attempt": 1e99, "at": "infinity", "type": "E", "began": [], "worker": 7}]',
]  # fmt: skip


def entry(kind: str, message: str, function: str, line: int = 3) -> str:
    return error_entry(kind, message, TRACEBACK.format(line, line, function))


def put_failed(
    connection: psycopg.Connection[Any], name: str, minutes: float, error: str, *,
    task: str = "shop.charge", queue: str = "celery", state: str = "discarded", worker: str = "w1",
    is_named: bool = True,
) -> None:  # fmt: skip
    """A job that failed so many minutes ago."""
    connection.execute(
        """
        INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, state, attempt, attempted_at,
          attempted_by, finished_at, due_at, claimed_by, failed_at, errors, fingerprint)
        SELECT %(name)s, %(task)s, %(queue)s, '{}', '[[1],{},{}]', %(state)s, 1, t.at, %(worker)s,
          CASE WHEN %(state)s = 'discarded' THEN t.at END,
          CASE WHEN %(state)s = 'retryable' THEN now() + interval '1 hour' END,
          CASE WHEN %(state)s = 'executing' THEN '00000000-0000-0000-0000-000000000001'::uuid END,
          CASE WHEN %(is_named)s THEN t.at END, %(errors)s::jsonb,
          CASE WHEN %(is_named)s THEN pgjobs.fingerprint(%(task)s, %(errors)s::jsonb -> -1) END
        FROM (SELECT %(now)s - %(minutes)s * interval '1 minute' AS at) AS t
        """,
        {
            "name": name, "task": task, "queue": queue, "state": state, "worker": worker,
            "errors": error if error.startswith("[") else f"[{error}]", "now": NOW,
            "minutes": minutes, "is_named": is_named,
        },
    )  # fmt: skip
