"""A revoke is written into the rows: no worker has to hear of it, and none to remember it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, group
from celery.exceptions import TaskRevokedError
from celery.result import GroupResult

from pgjobs_celery import jobs
from pgjobs_celery.errors import InvalidOption, PgJobsError

from ..conftest import Connection
from ..support.celery_process import run_celery
from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows, assert_finished, errors


def publish(path: Path, **options: Any) -> Any:
    return tasks.record.apply_async((str(path), 1), **options)


def test_what_is_revoked_while_no_worker_runs_is_not_run_by_one_that_starts_later(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
):
    lines = tmp_path / "lines"
    one, two, three, four = (publish(lines) for _ in range(4))
    five = publish(lines, countdown=0.5)
    several = group(tasks.record.si(str(lines), 1) for _ in range(3)).apply_async()
    app.control.revoke(one.id)
    app.control.revoke([two.id, three.id], terminate=True)
    four.revoke()
    five.revoke(terminate=True, signal="SIGKILL")
    several.revoke()
    revoked = [one, two, three, four, five, *several]
    assert {result.state for result in revoked} == {"REVOKED"}
    worker(pool="threads")
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
    for result in revoked:
        assert_finished(rows.get(result.id), "cancelled", attempt=0)
        with pytest.raises(TaskRevokedError):
            result.get(timeout=1)
    assert not lines.exists()


def test_stamped_tasks_are_revoked_by_their_stamp(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
):
    lines, kept = tmp_path / "lines", tmp_path / "kept"
    one = publish(lines, headers={}, stamped_headers=["customer"], customer="a")
    signature = tasks.record.si(str(lines), 1)
    signature.stamp(customer=["b", 'c"%'], append_stamps=True)
    several = group(signature, tasks.record.si(str(kept), 1)).apply_async()
    other = tasks.record.si(str(kept), 1)
    other.stamp(customer="z")
    other = other.apply_async()
    app.control.revoke_by_stamped_headers({"customer": ["x", 'c"%'], "region": "eu"})
    assert several[0].state == "REVOKED"
    # As the command line has it.
    app.control.broadcast("revoke_by_stamped_headers", arguments={"headers": ["customer=a"]})
    assert {r.id: r.state for r in (one, several[1], other)} == {
        one.id: "REVOKED", several[1].id: "PENDING", other.id: "PENDING",
    }  # fmt: skip
    worker(pool="threads")
    rows.wait(several[1].id), rows.wait(other.id)
    assert not lines.exists()
    assert kept.read_text().count("\n") == 2


def test_what_is_not_published_yet_is_cancelled_when_it_is(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
):
    """The rest of a chain has no rows before its turn has come."""
    release, lines = tmp_path / "release", tmp_path / "lines"
    last = chain(
        tasks.hold.si(str(tmp_path / "started"), str(release)),
        tasks.record.si(str(lines), 1),
    ).apply_async()
    worker(pool="threads")
    wait_for((tmp_path / "started").exists)
    last.revoke()
    assert last.state == "REVOKED"
    release.touch()
    rows.wait(last.parent.id)
    row = wait_for(lambda: rows.get(last.id) if rows.get(last.id)["task"] else None)
    assert_finished(row, "cancelled", attempt=0)
    assert errors(row) == [(0, "TaskRevokedError")]
    assert not lines.exists()
    # It was meant once. Whoever publishes the id again means that.
    publish(lines, task_id=last.id).get(timeout=10)
    assert lines.exists()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_runs_does_not_remember_what_somebody_has_put_back_in_line(
    pool: str, worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
):
    started = worker(pool=pool)
    lines = tmp_path / "lines"
    result = publish(lines, countdown=3600)
    late = publish(lines, expires=0.1, countdown=0.5)
    (reply,) = app.control.revoke(result.id, reply=True, limit=1)
    assert "ok" in reply[started.name]
    assert result.state == "REVOKED"
    assert jobs(app).filter(id=result).retry() == [result.id]
    assert rows.wait(result.id)["state"] == "completed"
    assert rows.wait(late.id)["state"] == "cancelled"
    assert lines.read_text().count("\n") == 1


def test_the_command_line_revokes_without_a_worker(app: Celery, url: str, rows: Rows):
    one, two = (tasks.add.delay(1, 1) for _ in range(2))
    for words in (["revoke", one.id], ["terminate", "SIGKILL", two.id]):
        # It complains that nobody has answered.
        run_celery("-b", url, "control", "-t", "0.1", *words, timeout=30)
    assert rows.count() == {"cancelled": 2}


def test_a_running_task_is_terminated_once_and_the_next_goes_on(
    worker: StartWorker, app: Celery, rows: Rows, tmp_path: Path
):
    """Its row tells the worker, and so does Celery's broadcast."""
    started = worker(pool="prefork", concurrency=1)
    for number in range(2):
        path = tmp_path / f"started{number}"
        result = tasks.hold.delay(str(path), str(tmp_path / "release"))
        wait_for(path.exists)
        behind = tasks.add.delay(number, 1)
        app.control.revoke(result.id, terminate=True)
        assert_finished(rows.wait(result.id), "cancelled")
        assert behind.get(timeout=10) == number + 1
    assert started.log.count("Terminating") <= 2


def test_revoking_what_has_ended_changes_nothing(app: Celery, worker: StartWorker, rows: Rows):
    worker(pool="threads")
    result = tasks.add.delay(1, 2)
    assert result.get(timeout=10) == 3
    before = rows.get(result.id)
    app.control.revoke(result.id, terminate=True)
    assert rows.get(result.id) == before
    assert result.get(timeout=1) == 3


def test_bad_input_is_refused_or_left_to_the_workers(app: Celery, rows: Rows):
    result = tasks.add.delay(1, 2)
    with pytest.raises(InvalidOption, match="signal must be one"):
        app.control.revoke(result.id, terminate=True, signal="SIGNONE")
    app.control.broadcast("revoke", arguments={"task_id": None})
    app.control.broadcast("revoke", arguments={"task_id": ["\0", 7]})
    app.control.broadcast("revoke_by_stamped_headers", arguments={"headers": 7})
    app.control.broadcast("revoke_by_stamped_headers", arguments={"headers": {"a": None}})
    app.control.broadcast("revoke")
    GroupResult("none", []).revoke()
    assert rows.get(result.id)["state"] == "available"


def test_what_is_just_being_published_cannot_be_revoked_before_that_is_over(
    app: Celery, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pgjobs_celery.db.rows.jobs.LOCK_TIMEOUT", 50)
    with connection.transaction():
        connection.execute(
            "INSERT INTO pgjobs.jobs (task_id, task, queue) VALUES ('open', 't', 'q')"
        )
        with pytest.raises(PgJobsError, match="a transaction that has not ended"):
            app.control.revoke("open")
    app.control.revoke("open")
    assert app.AsyncResult("open").state == "REVOKED"
