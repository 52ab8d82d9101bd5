"""``worker_deduplicate_successful_tasks``: what comes again after its SUCCESS is left out."""

from __future__ import annotations

from pathlib import Path

import celery
import pytest
from celery import Celery, chain

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows, assert_finished

CONF = {"worker_deduplicate_successful_tasks": True, "task_acks_late": True}


@pytest.mark.skipif(celery.VERSION < (5, 6), reason="Celery 5.5 drops what follows such a task")
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_task_that_stored_its_success_and_was_put_back_is_left_out_and_its_callbacks_are_not(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path, pool: str
) -> None:
    started = worker(pool=pool, concurrency=1, conf=CONF)
    path = str(tmp_path / "runs")
    signature = tasks.store_success_and_reject.s(path, "first run")
    followed = chain(signature, tasks.identity.s()).apply_async()
    assert followed.get(timeout=10) == "first run"
    parent = followed.parent
    row = rows.wait(parent.id)
    assert_finished(row, attempt=2)
    assert row["redelivered"]
    assert parent.get(timeout=10) == "first run"
    assert "Task already completed successfully." in started.log
    # A link, too.
    other = str(tmp_path / "others")
    linked = tasks.store_success_and_reject.s(other, 7)
    linked.link(tasks.record.si(str(tmp_path / "linked"), 7))
    linked.apply_async()
    wait_for((tmp_path / "linked").exists)
    assert len((tmp_path / "linked").read_text().splitlines()) == 1
    assert [Path(each).read_text() for each in (path, other)] == ["ran\n", "ran\n"]


def test_without_the_setting_it_runs_again(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
) -> None:
    worker(pool="threads", concurrency=1)
    result = tasks.store_success_and_reject.delay(str(tmp_path / "runs"), "first run")
    wait_for(lambda: rows.get(result.id)["attempt"] == 2)
    assert_finished(rows.wait(result.id), attempt=2)
    assert (tmp_path / "runs").read_text() == "ran\nran\n"
