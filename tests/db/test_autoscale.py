"""The view autoscale counts what could run, and what may."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg

from pgjobs_celery.control.queues import Queues
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.nodes import About
from pgjobs_celery.job.rows import Bucket
from tests.support.rows import put

NODE = UUID(int=1)


def test_it_counts_ready_and_running_jobs_against_the_places_for_them(
    database: Database, connection: psycopg.Connection[dict[str, Any]]
):
    def scale(queue: str) -> dict[str, Any]:
        found = connection.execute(
            "SELECT ready, running, wanted, slots, workers FROM pgjobs.autoscale WHERE queue = %s",
            [queue],
        ).fetchone()
        assert found is not None
        return found

    connection.execute("INSERT INTO pgjobs.queues (name) VALUES ('celery'), ('mail'), ('none')")
    database.nodes.beat_node(NODE, "w", ["celery", "mail"], 3600.0, about=About({"slots": 4}))
    put(database, "a", "b", "c")
    put(database, "d", eta=60)
    put(database, "e", queue="mail")
    database.claims.claim_jobs(NODE, "w", [Bucket("celery", 0, 255, 0)], 1)
    assert scale("celery") == {"ready": 2, "running": 1, "wanted": 3, "slots": 4, "workers": 1}
    assert scale("mail") == {"ready": 1, "running": 0, "wanted": 1, "slots": 4, "workers": 1}
    assert scale("none") == {"ready": 0, "running": 0, "wanted": 0, "slots": 0, "workers": 0}
    Queues(database).limit("celery", 2)
    assert scale("celery")["wanted"] == 2
    Queues(database).limit("celery", None)
    Queues(database).pause("celery")
    assert scale("celery")["wanted"] == 1
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '2 hours'")
    assert scale("celery")["slots"] == 0
