"""Connections that are cut off while a node works."""

from __future__ import annotations

import psycopg

from pgjobs_celery.db.connection import CONNECTION_ERRORS
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.rows import Bucket, Claim
from pgjobs_celery.node.node import Node

CELERY = [Bucket("celery")]


def cut(database: Database) -> None:
    """End every session of the package in the database."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'pgjobs-celery' AND datname = current_database()"
        )


def claim_through_cuts(node: Node, limit: int) -> list[Claim]:
    """Until a connection lives long enough, as a worker does."""
    for _ in range(100):
        try:
            return node.claim_jobs(CELERY, limit)
        except CONNECTION_ERRORS:
            continue
    raise AssertionError("never a connection")
