"""Results as an application uses them: a worker computes, another process waits."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chain, group
from celery.result import GroupResult, ResultSet

from ..conftest import close_app
from ..support.celery_process import run_celery
from ..support.waiting import wait_for
from . import tasks
from .conftest import ROOT, StartWorker, Worker


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", autouse=True)
def running(module_worker: StartWorker) -> Worker:
    """One worker for all tests."""
    return module_worker(concurrency=2)


def ask_celery(url: str, *args: str) -> tuple[int, str]:
    """A ``celery`` command on the tests' app; its exit code and what it printed."""
    environment = {**os.environ, "PGJOBS_TEST_URL": url}
    done = run_celery(
        *("-A", "tests.e2e.tasks", *args), cwd=ROOT, env=environment, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout


def test_a_result_arrives_without_waiting_for_a_poll(app: Celery):
    tasks.add.delay(1, 1).get(timeout=10)
    started = time.monotonic()
    assert [tasks.add.delay(number, 1).get(timeout=10) for number in range(20)] == [*range(1, 21)]
    assert time.monotonic() - started < 20 * 0.5  # a look by itself comes after 5 s


def test_a_result_is_read_by_whoever_knows_its_id(app: Celery):
    task_id = tasks.add.delay(2, 3).id
    assert app.AsyncResult(task_id).get(timeout=10) == 5
    other = Celery("other", broker=app.conf.broker_url, backend=app.conf.broker_url)
    try:
        result = other.AsyncResult(task_id)
        assert (result.state, result.result, result.successful()) == ("SUCCESS", 5, True)
        assert result.date_done is not None
    finally:
        close_app(other)


def test_a_task_sees_when_it_was_to_run(app: Celery):
    before = datetime.now(timezone.utc)
    eta = tasks.request_info.apply_async(countdown=0.2).get(timeout=10)["eta"]
    assert 0 < (datetime.fromisoformat(eta) - before).total_seconds() < 2
    assert tasks.request_info.delay().get(timeout=10)["eta"] is None


def test_an_exception_of_a_task_is_raised_where_its_result_is_read(app: Celery):
    result = tasks.fail.delay("no", 7)
    with pytest.raises(tasks.CustomError) as raised:
        result.get(timeout=10)
    assert (raised.value.message, raised.value.code) == ("no", 7)
    assert "in fail" in result.traceback
    assert isinstance(result.get(propagate=False), tasks.CustomError)


def test_a_result_that_is_ignored_is_not_waited_for(app: Celery, tmp_path: Path):
    ran = tmp_path / "ran"
    result = tasks.ignored.delay(str(ran))
    assert result.get(timeout=0) is None
    wait_for(ran.exists)
    plain = app.AsyncResult(result.id)
    assert (plain.state, plain.result) == ("PENDING", None)


def test_progress_is_visible_from_outside(app: Celery, tmp_path: Path):
    release = tmp_path / "release"
    result = tasks.report_progress.delay(str(release))
    wait_for(lambda: result.state == "PROGRESS")
    assert result.info == {"done": 1, "total": 2}
    assert not result.ready()
    release.touch()
    assert result.get(timeout=10) == "done"


def test_a_forgotten_result_is_gone(app: Celery):
    result = tasks.add.delay(1, 1)
    result.get(timeout=10)
    result.forget()
    assert app.AsyncResult(result.id).state == "PENDING"


def test_a_task_that_published_another_has_it_as_its_child(app: Celery):
    result = tasks.publish_child.delay(2, 2)
    child_id = result.get(timeout=10)
    assert [child.id for child in result.children] == [child_id]
    assert result.children[0].get(timeout=10) == 4
    assert [value for _, value in result.collect(timeout=10)] == [child_id, 4]


def test_a_chain_gives_the_result_of_its_last_task(app: Celery):
    result = chain(tasks.add.s(1, 1), tasks.add.s(2), tasks.add.s(3))()
    assert result.get(timeout=10) == 7
    assert (result.parent.get(timeout=10), result.parent.parent.get(timeout=10)) == (4, 2)


def test_a_failure_on_the_way_is_raised_at_the_end_of_a_chain(app: Celery):
    result = chain(tasks.add.s(1, 1), tasks.fail.si("broke", 1), tasks.add.s(1))()
    with pytest.raises(tasks.CustomError, match="broke"):
        result.get(timeout=10)


def test_the_results_of_a_group_keep_their_order(app: Celery):
    result = group(tasks.add.s(number, number) for number in range(30))()
    assert isinstance(result, GroupResult)
    assert result.get(timeout=20) == [2 * number for number in range(30)]
    assert result.successful()


def test_results_of_several_tasks_are_joined(app: Celery):
    results = ResultSet([tasks.add.delay(number, 1) for number in range(30)], app=app)
    assert results.join(timeout=20) == list(range(1, 31))
    assert results.completed_count() == 30


def test_a_failure_in_a_group_is_raised(app: Celery):
    result = group(tasks.add.s(1, 1), tasks.fail.s("one broke", 1))()
    with pytest.raises(tasks.CustomError, match="one broke"):
        result.get(timeout=10)
    first, second = result.get(timeout=10, propagate=False)
    assert (first, type(second)) == (2, tasks.CustomError)


@pytest.mark.parametrize(
    ("task", "args", "option", "shown"),
    [(tasks.add, (2, 3), (), "5"), (tasks.fail, ("no", 1), ("--traceback",), "in fail")],
    ids=["value", "traceback"],
)
def test_the_command_line_shows_a_result(
    app: Celery, url: str, task: Any, args: tuple[Any, ...], option: tuple[str, ...], shown: str
):
    result = task.delay(*args)
    result.get(timeout=10, propagate=False)
    code, output = ask_celery(url, "result", *option, result.id)
    assert code == 0, output
    assert shown in output


# Workers of another kind


def conf_of(app: Celery, **conf: Any) -> Celery:
    """The tests' app as another process configures it."""
    other = Celery("tests.e2e", broker=app.conf.broker_url, backend=app.conf.broker_url)
    other.conf.update(conf)
    return other


def test_pickled_compressed_and_extended_results(module_worker: StartWorker, app: Celery):
    queue = f"other-{uuid4().hex[:6]}"
    conf = {
        "result_serializer": "pickle", "accept_content": ["json", "pickle"],
        "result_compression": "gzip", "result_extended": True, "task_track_started": True,
    }  # fmt: skip
    env = {"C_FORCE_ROOT": "1"}  # tests run as root in containers, and Celery minds with pickle
    started = module_worker(queues=[queue], concurrency=1, conf=conf, env=env)
    reader = conf_of(app, **conf)
    try:
        found = reader.AsyncResult(tasks.echo.apply_async((1, "ü\0"), {"a": 2}, queue=queue).id)
        assert found.get(timeout=10) == {"args": [1, "ü\0"], "kwargs": {"a": 2}}
        assert (found.name, list(found.args), found.kwargs) == (
            "tests.e2e.tasks.echo", [1, "ü\0"], {"a": 2},
        )  # fmt: skip
        assert (found.queue, found.worker, found.retries) == (queue, started.name, 0)
        retried = reader.AsyncResult(tasks.retry.apply_async((1,), queue=queue).id)
        assert (retried.get(timeout=10), retried.retries) == (1, 1)
        large = reader.AsyncResult(tasks.identity.apply_async(("x" * 500_000,), queue=queue).id)
        assert large.get(timeout=10) == "x" * 500_000
        failed = reader.AsyncResult(tasks.fail.apply_async(("no", 7), queue=queue).id)
        with pytest.raises(tasks.CustomError) as raised:
            failed.get(timeout=10)
        assert raised.value.code == 7
        odd = reader.AsyncResult(tasks.fail_unpicklable.apply_async(queue=queue).id)
        with pytest.raises(Exception, match="because of the weather"):
            odd.get(timeout=10)
    finally:
        close_app(reader)
    assert started.stop() == 0
    assert "not written" not in started.log


@pytest.mark.peer
def test_results_of_a_worker_whose_broker_is_redis(
    module_worker: StartWorker, url: str, redis_url: str, tmp_path: Path
):
    queue = f"pgjobs-{uuid4().hex[:6]}"
    conf = {"result_backend": url, "task_default_queue": queue, "result_extended": True}
    started = module_worker(broker=redis_url, concurrency=1, conf=conf)
    app = Celery("tests.e2e", broker=redis_url, backend=url)
    app.conf.update(conf)
    try:
        added = app.send_task("tests.e2e.tasks.add", (2, 3))
        assert (added.get(timeout=10), added.name, added.args) == (5, "tests.e2e.tasks.add", [2, 3])
        assert (added.worker, added.queue) == (started.name, queue)
        failed = app.send_task("tests.e2e.tasks.fail", ("no", 7))
        with pytest.raises(tasks.CustomError):
            failed.get(timeout=10)
        release = tmp_path / "release"
        reporting = app.send_task("tests.e2e.tasks.report_progress", (str(release),))
        wait_for(lambda: reporting.state == "PROGRESS")
        release.touch()
        assert reporting.get(timeout=10) == "done"
        retried = app.send_task("tests.e2e.tasks.retry", (2,), {"countdown": 0.1})
        assert (retried.get(timeout=10), retried.retries) == (2, 2)
        several = group(
            app.signature("tests.e2e.tasks.add", (number, 1), app=app) for number in range(5)
        )()
        assert several.get(timeout=10) == [1, 2, 3, 4, 5]
    finally:
        close_app(app)
    assert started.stop() == 0
