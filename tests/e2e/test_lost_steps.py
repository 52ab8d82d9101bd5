"""A step that its predecessor has published is there, and runs once, whatever becomes of that."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import celery
import pytest
from celery import Celery, chord, group

from ..support.waiting import wait_for
from . import lost
from .conftest import StartWorker, producing
from .rows import Rows, assert_finished, errors


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    with producing(lost.app, url) as app:
        yield app


def runs(path: Path) -> int:
    return len(path.read_text().splitlines())


NEWER = pytest.mark.skipif(celery.VERSION < (5, 7), reason="task_retry_on_worker_lost is of 5.7")

#: A task, and how often it runs. What was stored before its process was lost stands.
KINDS = [
    pytest.param(lost.in_attempts, 1, id="in_attempts"),
    pytest.param(lost.ignored, 2, id="ignored"),
    pytest.param(lost.retrying, 3, id="retrying"),
    pytest.param(lost.rejected, 2, id="rejected"),
    pytest.param(lost.sent_again, 2, id="sent_again", marks=NEWER),
]


@pytest.mark.parametrize(("task", "attempts"), KINDS)
def test_a_step_runs_once_though_its_predecessor_is_lost_and_runs_again(
    task: celery.Task, attempts: int, app: Celery, worker: StartWorker, rows: Rows, tmp_path: Path
) -> None:
    worker(app="tests.e2e.lost", concurrency=2)
    first, second = tmp_path / "first", tmp_path / "second"
    step = (task.si(str(first), str(second)) | lost.record.si(str(second))).delay()
    assert step.get(timeout=30) == 1
    row = rows.wait(step.parent.id, timeout=30)
    assert (row["state"], row["attempt"]) == ("completed", attempts)
    # Whoever publishes it again does so before that: nothing more is to come.
    assert rows.count() == {"completed": 2}
    assert runs(second) == 1


@pytest.mark.parametrize("task", [lost.ignored, lost.retrying], ids=["ignored", "retrying"])
def test_a_chord_runs_once_though_its_predecessor_is_lost_and_runs_again(
    task: celery.Task, app: Celery, worker: StartWorker, rows: Rows, tmp_path: Path
) -> None:
    worker(app="tests.e2e.lost", concurrency=4)
    first, body = tmp_path / "first", tmp_path / "body"
    files = [tmp_path / "one", tmp_path / "other"]
    parts = group(lost.record.si(str(file)) for file in files)
    step = (task.si(str(first), str(body)) | chord(parts, lost.total.s(str(body)))).delay()
    assert step.get(timeout=30) == 2
    rows.wait_count(completed=4, timeout=30)
    assert [runs(file) for file in (*files, body)] == [1, 1, 1]


@pytest.mark.parametrize("task", lost.lost_in_errback, ids=lambda task: task.name)
def test_an_errback_is_called_though_its_task_is_lost_before_that(
    task: celery.Task, app: Celery, worker: StartWorker, rows: Rows, tmp_path: Path
) -> None:
    worker(app="tests.e2e.lost", concurrency=2)
    path, called = tmp_path / "runs", tmp_path / "called"
    errback = lost.record.si(str(called))
    result = task.apply_async((str(path),), link_error=errback)
    assert_finished(rows.wait(result.id, timeout=20), "discarded")
    assert errors(rows.get(result.id)) == [(1, "KeyError")]
    rows.wait_count(discarded=1, completed=1, timeout=20)
    assert (runs(path), runs(called)) == (1, 1)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
@pytest.mark.parametrize("task", [lost.retry_twice, lost.pg_retry_twice], ids=["plain", "pgtask"])
def test_each_retry_has_its_entry_though_nobody_wants_the_result(
    task: celery.Task, pool: str, app: Celery, worker: StartWorker, rows: Rows
) -> None:
    worker(app="tests.e2e.lost", pool=pool)
    task_id = task.delay().id
    row = rows.wait(task_id, timeout=20)
    assert (row["state"], row["attempt"]) == ("completed", 3)
    # The next attempt may be over before the process of the last has said why it failed.
    both = [(1, "KeyError"), (2, "Retry")]
    wait_for(lambda: sorted(errors(rows.get(task_id))) == both)
    first = min(rows.get(task_id)["errors"], key=itemgetter("attempt"))
    assert "why" in first["message"]
    assert first["traceback"]
