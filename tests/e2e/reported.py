"""The tests' app under Sentry: what would be sent goes to a file, a line of JSON each."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import Any

import sentry_sdk
from celery import Task
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

from .pgtasks import add, app
from .tasks import append

app.conf.beat_schedule = {
    "hourly": {
        "task": add.name,
        "args": (1, 2),
        "schedule": 3600,
        "last_run_at": datetime(2000, 1, 1, tzinfo=timezone.utc),
    }
}


@app.task(base=Task, autoretry_for=(OSError,), max_retries=2, default_retry_delay=0)
def plain(error: str) -> None:
    """No PgTask."""
    raise {"KeyError": KeyError, "OSError": OSError}[error]("no such row")


class FileTransport(Transport):
    """Safe in the children of a pool as well: each item is one write."""

    path = os.environ.get("PGJOBS_TEST_REPORTS", "")

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            if item.payload.json is not None:
                append(self.path, json.dumps({**item.payload.json, "item": item.type}))


def report(path: str, **options: Any) -> None:
    """Report what happens in this process."""
    FileTransport.path = path
    sentry_sdk.init(
        dsn="http://key@localhost/1",
        transport=FileTransport,
        traces_sample_rate=1.0,
        integrations=[CeleryIntegration(monitor_beat_tasks=True)],
        **options,
    )


if FileTransport.path:
    report(FileTransport.path)
