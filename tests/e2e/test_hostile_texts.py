"""What hostile names and ids say is shown by no worker's log as they have it."""

from __future__ import annotations

import pytest
from celery import Celery

from ..conftest import Connection
from ..support.waiting import wait_for
from ..test_printable import EVIL, assert_harmless
from . import tasks
from .conftest import StartWorker
from .rows import Rows

#: Without a line of its own: an exception may have several.
RAISED = EVIL.replace("\n", "").replace("\u2028", "")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_worker_logs_nothing_that_a_terminal_obeys(
    worker: StartWorker, app: Celery, connection: Connection, rows: Rows, pool: str
) -> None:
    if pool == "gevent":
        pytest.importorskip("gevent")
    name = tasks.add.name
    app.send_task(name, (1, 2), task_id=f"done{EVIL}")
    app.send_task(name, (1,), task_id=f"called wrong{EVIL}")
    app.send_task(EVIL, task_id=f"unknown{EVIL}")
    app.send_task(tasks.fail.name, (RAISED,), task_id=f"failed{EVIL}")
    app.send_task(tasks.retry.name, (1,), task_id=f"retried{EVIL}")
    app.send_task(tasks.reject.name, task_id=f"rejected{EVIL}")
    app.send_task(tasks.identity.name, (EVIL,), task_id=f"said{EVIL}")
    for task_id, message in {
        f"no type{EVIL}": '{"content-type": "x\\u001b[2J\\nFORGED", "content-encoding": "utf-8"}',
        f"no message{EVIL}": EVIL,
    }.items():
        app.send_task(name, (1, 2), task_id=task_id)
        connection.execute(
            "UPDATE pgjobs.jobs SET message = %s WHERE task_id = %s", [message, task_id]
        )
    connection.execute(
        "INSERT INTO pgjobs.nodes (node, name, version, heartbeat_at, lease)"
        " VALUES (gen_random_uuid(), %s, %s, now() - interval '1 hour', 1)",
        [EVIL, EVIL],
    )
    started = worker(
        pool=pool, concurrency=2, conf={"pgjobs_lease": 3, "pgjobs_heartbeat_interval": 0.5}
    )
    wait_for(
        lambda: set(rows.count()) <= {"completed", "discarded", "cancelled"},
        30,
        lambda: started.log,
    )
    wait_for(lambda: "is dead" in started.log, 30, lambda: started.log)
    assert started.stop() == 0
    assert_harmless(started.log)
    for task_id in ("done", "unknown", "failed", "retried", "said"):
        assert f"[{task_id}x" in started.log or f"{task_id}x" in started.log, task_id
    assert started.log.count("PWNED") > 10
