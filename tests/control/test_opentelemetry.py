"""OpenTelemetry exports what the database counts."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk.metrics")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from pgjobs_celery.control.opentelemetry import INSTRUMENTS, observe
from pgjobs_celery.job.outcome import completed
from pgjobs_celery.job.rows import Bucket
from tests.control.test_metrics import NODE, fold  # noqa: F401
from tests.support.rows import put


def test_instruments_show_tasks_queues_and_workers(database, connection, make_app, fold):  # noqa: F811
    put(database, "a", "b")
    (claim,) = database.claims.claim_jobs(NODE, "n", [Bucket("celery", 0, 255, 0)], 1)[0]
    database.claims.settle_jobs(NODE, [completed(claim)])
    fold()
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observe(make_app(), provider.get_meter("test"))
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        metric.name: {tuple(sorted(point.attributes.items())): point.value for point in points}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if (points := metric.data.data_points)
    }
    assert set(found) <= set(INSTRUMENTS)
    task = ("celery.task_name", "tasks.add")
    queue = ("messaging.destination.name", "celery")
    system = ("messaging.system", "pgjobs")
    assert found["messaging.client.consumed.messages"] == {
        (task, queue, ("messaging.operation.name", "process"), system): 1
    }
    assert found["pgjobs.task.succeeded"] == {(task, queue, system): 1}
    assert found["pgjobs.queue.length"][queue, system] == 1
    assert found["pgjobs.worker.up"] == {(("messaging.client.id", "celery@web"), system): 1}
    provider.shutdown()
