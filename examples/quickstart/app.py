"""The Celery app of the quickstart: any Celery app, with two settings that lead to PostgreSQL."""

from __future__ import annotations

import os

from celery import Celery

URL = os.environ.get("PGJOBS_URL", "pgjobs://localhost/postgres")

app = Celery("quickstart", broker=URL, backend=URL, include=["tasks"])

app.conf.update(
    # A queue of its own, so that this worker never takes the tasks of another app in the database.
    task_default_queue="quickstart",
    # Task name, arguments and worker go into the stored result.
    result_extended=True,
    broker_connection_retry_on_startup=True,
)
