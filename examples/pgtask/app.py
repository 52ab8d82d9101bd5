"""The Celery app: every task is a PgTask."""

from __future__ import annotations

import os

from celery import Celery

URL = os.environ.get("PGJOBS_URL", "pgjobs://localhost/app")

app = Celery("letters", broker=URL, backend=URL, task_cls="pgjobs_celery:PgTask", include=["tasks"])

app.conf.update(
    # A queue of its own, so that this worker never takes the tasks of another app in the database.
    task_default_queue="letters",
    # STARTED once a task runs: to be seen from outside.
    task_track_started=True,
    broker_connection_retry_on_startup=True,
)
