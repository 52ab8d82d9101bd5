"""The app of the tests of probes: a command holds up the worker's event loop."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery
from celery.worker.control import control_command

from .tasks import URL

app = Celery("probed", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))


@control_command(args=[("seconds", float)])
def stall(state: Any, seconds: float) -> None:
    """Nothing else happens in the worker's main thread meanwhile."""
    time.sleep(seconds)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def fail() -> None:
    raise ValueError("no")
