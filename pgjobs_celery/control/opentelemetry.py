"""The same metrics for OpenTelemetry: observable instruments, read when they are exported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..errors import RequirementMissing
from .app import database_of
from .metrics import METRICS, Reading, read_metrics

try:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter
except ImportError as error:
    raise RequirementMissing(
        "these metrics need opentelemetry-api: pip install 'pgjobs-celery[opentelemetry]'"
    ) from error

if TYPE_CHECKING:
    from ..db.database import Database

#: For how many seconds a reading serves all instruments: one export asks each of them.
FRESH = 1.0

#: Attributes of the semantic conventions for messaging, and of the instrumentation of Celery.
_TASK = ("celery.task_name", "messaging.destination.name")
_QUEUE = ("messaging.destination.name",)
_WORKER = ("messaging.client.id",)

#: The instruments: which metric each shows, its unit, and the attributes that its labels become.
#: The first has its name from the semantic conventions, which have none for the others.
INSTRUMENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "messaging.client.consumed.messages": ("celery_task_received", "{message}", _TASK),
    "pgjobs.task.succeeded": ("celery_task_succeeded", "{job}", _TASK),
    "pgjobs.task.failed": ("celery_task_failed", "{job}", (*_TASK, "error.type")),
    "pgjobs.task.retried": ("celery_task_retried", "{attempt}", _TASK),
    "pgjobs.task.revoked": ("celery_task_revoked", "{job}", _TASK),
    "pgjobs.queue.length": ("celery_queue_length", "{job}", _QUEUE),
    "pgjobs.queue.oldest_ready": ("pgjobs_oldest_ready_seconds", "s", _QUEUE),
    "pgjobs.worker.up": ("celery_worker_up", "{worker}", _WORKER),
    "pgjobs.worker.active": ("celery_worker_tasks_active", "{job}", _WORKER),
}


def observe(app: Any, meter: Meter | None = None, *, limit: int = 500) -> None:
    """Have the metrics of a Celery app's database exported, by ``meter`` or the global provider's.

    In one process of the system, for each shows all of it. ``limit``: how many queues are shown
    apart. Raises PgJobsError if the app has its jobs elsewhere.

    >>> observe(app)
    """
    from .._version import __version__

    meter = meter or get_meter("pgjobs_celery", __version__)
    latest = Latest(database_of(app), limit)
    for name, (metric, unit, attributes) in INSTRUMENTS.items():
        is_counter = METRICS[metric].kind == "counter"
        make = meter.create_observable_counter if is_counter else meter.create_observable_gauge
        make(name, callbacks=[callback(latest, metric, attributes)], unit=unit)


class Latest:
    """A reading that all instruments of one export share."""

    def __init__(self, database: Database, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._reading = Reading()
        self._at = float("-inf")

    def get(self) -> Reading:
        """The reading, a new one if it is FRESH no more."""
        if time.monotonic() - self._at > FRESH:
            self._reading = read_metrics(self._database, self._limit)
            self._at = time.monotonic()
        return self._reading


def callback(
    latest: Latest, metric: str, attributes: tuple[str, ...]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """What an instrument calls when it is exported."""

    is_consumed = metric == "celery_task_received"
    fixed = {"messaging.system": "pgjobs"}
    fixed |= {"messaging.operation.name": "process"} if is_consumed else {}

    def observed(options: CallbackOptions) -> Iterable[Observation]:
        for labels, value in latest.get().values[metric].items():
            yield Observation(value, {**fixed, **dict(zip(attributes, labels, strict=True))})

    return observed
