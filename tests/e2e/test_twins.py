"""Two workers of one nodename: people forget ``-n``. Both run, and both hear of remote control."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery
from celery.exceptions import DuplicateNodenameWarning

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows

TWIN = ["--hostname", "twin@test"]


@pytest.mark.parametrize("is_exclusive", [True, False])
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_two_workers_of_one_name_run_and_both_answer(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path, pool: str, is_exclusive: bool
) -> None:
    conf = {"control_queue_exclusive": is_exclusive}
    first = worker(pool=pool, concurrency=1, args=TWIN, conf=conf)
    second = worker(pool=pool, concurrency=1, args=TWIN, conf=conf)
    # gevent's mailbox opens in a greenlet, after the worker is ready.
    wait_for(lambda: "already using this process mailbox" in second.log, 20, lambda: second.log)
    assert "already using this process mailbox" not in first.log
    answers = app.control.broadcast("ping", reply=True, timeout=10, limit=2)
    assert answers == [{"twin@test": {"ok": "pong"}}] * 2
    with pytest.warns(DuplicateNodenameWarning, match=r"twin@test"):
        app.control.inspect(timeout=10, limit=2).ping()
    # A command reaches both, by broadcast and by name: each grows by a process.
    reply = app.control.broadcast(
        "add_consumer",
        {"queue": "more"},
        destination=["twin@test"],
        reply=True,
        timeout=10,
        limit=2,
    )
    assert len(reply) == 2
    results = [tasks.add.apply_async((1, number), queue="more") for number in range(4)]
    assert [result.get(timeout=10) for result in results] == [1, 2, 3, 4]
    # The one that was first leaves, and the other goes on to hear.
    first.stop()
    assert app.control.ping(timeout=10, limit=1) == [{"twin@test": {"ok": "pong"}}]
    app.control.shutdown()
    assert second.process.wait(20) == 0
    assert not rows.select("SELECT 1 FROM pgjobs.queues WHERE name LIKE '%%pidbox%%'")
