"""A message that kills whoever reads it costs an attempt each time, and so comes to an end."""

from __future__ import annotations

import pytest

from ..support.waiting import wait_for
from .conftest import StartWorker
from .hostile import Hostile
from .rows import Rows, assert_finished, errors

CONF = {
    "accept_content": ["json", "application/x-deadly"],
    "pgjobs_lease": 1.5,
    "pgjobs_heartbeat_interval": 0.25,
}
DEADLY = Hostile(properties={"content_type": "application/x-deadly"})


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize(("task", "deliveries"), [("late", 2), ("early", 1)])
def test_a_message_that_kills_its_worker_ends_by_its_deliveries(
    task: str, deliveries: int, pool: str, worker: StartWorker, rows: Rows, url: str
) -> None:
    task_id = DEADLY.publish(url, task)
    rows.select("UPDATE pgjobs.jobs SET max_attempts = 2 WHERE task_id = %s RETURNING id", task_id)
    for _ in range(deliveries):
        victim = worker(pool=pool, app="tests.e2e.hooked", conf=CONF, wait=False)
        wait_for(victim.process.poll, 30.0, lambda: rows.get(task_id))
    worker(pool=pool, app="tests.e2e.hooked", conf=CONF)
    row = rows.wait(task_id, timeout=20)
    assert_finished(row, "discarded", attempt=deliveries)
    assert errors(row) == [(n + 1, "WorkerLostError") for n in range(deliveries)]
