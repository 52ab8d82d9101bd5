from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from billiard.connection import Pipe
from celery import Celery
from celery.exceptions import Ignore

from pgjobs_celery.job.outcome import Result
from pgjobs_celery.results.handover import (
    LIMIT,
    Summary,
    TracingPool,
    hand_over,
    returned,
    trace_job,
)

from ..conftest import Connection
from ..support.holders import execute, hold

MakeApp = Callable[..., Celery]


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    app = make_app()

    @app.task(shared=False, name="echo")
    def echo(value: Any) -> Any:
        return value

    @app.task(shared=False, name="fail")
    def fail() -> None:
        raise KeyError("no")

    @app.task(shared=False, name="large")
    def large(size: int) -> str:
        return "x" * size

    @app.task(shared=False, name="inline")
    def inline(value: Any) -> Any:
        return echo.apply((value,)).get(disable_sync_subtasks=False)

    @app.task(shared=False, name="settled", bind=True)
    def settled(self: Any, value: Any) -> None:
        self.update_state(state="SUCCESS", meta=value)
        raise Ignore

    return app


def run(app: Celery, name: str, *args: Any, **options: Any) -> tuple[str, tuple[Any, ...]]:
    """Publish, claim and run a task as the pool does; its id and what the pool gets to return."""
    published = app.send_task(name, args, **options)
    request = hold(app)
    assert request.id == published.id
    return request.id, execute(app, request)


@pytest.mark.parametrize("name", ["fail", "large"])
def test_that_the_claim_was_lost_travels_with_what_became_of_the_task(
    name: str, app: Celery, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    app.send_task(name, (LIMIT,) if name == "large" else ())
    request = hold(app)
    connection.execute("UPDATE pgjobs.jobs SET claimed_by = gen_random_uuid()")
    failed, returned, _ = execute(app, request)
    back = pickle.loads(pickle.dumps(returned))
    assert back.is_lost if failed else back.result is None
    assert "was not written" not in caplog.text  # the worker says so


def result(task_id: str = "id", data: bytes = b"1") -> Result:
    return Result(task_id, data, "application/json", None, None, None)


def state(connection: Connection, task_id: str) -> str:
    row = connection.execute(
        "SELECT state FROM pgjobs.jobs WHERE task_id = %s", [task_id]
    ).fetchone()
    assert row
    return str(row["state"])


def test_a_task_that_returns_leaves_its_result_to_the_worker(app: Celery, connection: Connection):
    task_id, (failed, returned, runtime) = run(app, "echo", [1, None, "ü"])
    assert not failed
    assert runtime >= 0
    assert isinstance(returned, Summary)
    assert returned == "[1, None, 'ü']"  # what the worker's log line and events show
    assert app.backend.decode(returned.result.result) == [1, None, "ü"]
    assert returned.result.task_id == task_id
    assert state(connection, task_id) == "executing"


def test_a_task_that_fails_writes_its_result_itself(app: Celery, connection: Connection):
    task_id, (failed, returned, _) = run(app, "fail")
    assert failed
    assert not isinstance(returned, Summary)
    assert state(connection, task_id) == "discarded"


def test_a_large_result_is_written_where_the_task_ran(app: Celery, connection: Connection):
    task_id, (_, returned, _) = run(app, "large", LIMIT)
    assert not isinstance(returned, Summary)
    assert state(connection, task_id) == "completed"
    assert app.AsyncResult(task_id).get() == "x" * LIMIT
    task_id, (_, returned, _) = run(app, "large", LIMIT - 2)  # and two quotation marks
    assert isinstance(returned, Summary)


def test_an_ignored_result_is_not_carried(app: Celery, connection: Connection):
    task_id, (failed, returned, _) = run(app, "echo", 1, ignore_result=True)
    assert not failed
    assert not isinstance(returned, Summary)
    assert state(connection, task_id) == "executing"


def test_a_task_that_is_called_inside_another_carries_nothing(app: Celery):
    task_id, (_, returned, _) = run(app, "inline", 3)
    assert returned.result.task_id == task_id
    assert app.backend.decode(returned.result.result) == 3


def test_a_success_that_the_task_states_itself_is_written_at_once(
    app: Celery, connection: Connection
):
    task_id, (failed, _, _) = run(app, "settled", {"rows": 3})
    assert failed  # Ignore: the worker stores nothing
    assert state(connection, task_id) == "completed"
    assert app.AsyncResult(task_id).get() == {"rows": 3}


def test_the_summary_travels_between_processes():
    summary = Summary("'x'", result(data=b'"x"'))
    copy = pickle.loads(pickle.dumps(summary))
    assert (copy, copy.result, type(copy)) == ("'x'", summary.result, Summary)
    ours, theirs = Pipe()
    ours.send((0, summary, 0.1))
    failed, received, _ = theirs.recv()
    assert (failed, received, received.result) == (0, "'x'", summary.result)


def test_nothing_is_carried_outside_a_job():
    with returned("id"):
        assert not hand_over(result())


def test_what_a_task_says_before_it_returns_is_not_carried():
    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        assert not hand_over(result(task_id))
        return 0, "None", 0.0

    assert not isinstance(trace_job(trace, "task", "id")[1], Summary)


def test_a_result_of_another_task_is_not_carried():
    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        with returned("another"):
            assert not hand_over(result("another"))
        with returned("another"):
            assert not hand_over(result(task_id))
        return 0, "None", 0.0

    assert not isinstance(trace_job(trace, "task", "id")[1], Summary)


def test_a_result_stays_in_its_thread():
    barrier = threading.Barrier(8, timeout=10)
    found: dict[str, Any] = {}

    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        barrier.wait()
        with returned(task_id):
            assert hand_over(result(task_id, task_id.encode()))
        barrier.wait()
        return 0, task_id, 0.0

    def work(task_id: str) -> None:
        found[task_id] = trace_job(trace, "task", task_id)[1].result.result

    threads = [threading.Thread(target=work, args=[f"id{n}"]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {f"id{n}": f"id{n}".encode() for n in range(8)}


def test_what_a_broken_run_left_is_not_found_by_the_next():
    def broken(name: str, task_id: str) -> tuple[Any, ...]:
        with returned(task_id):
            assert hand_over(result(task_id))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trace_job(broken, "task", "one")
    with returned("one"):
        assert not hand_over(result("one"))
    assert trace_job(lambda name, task_id: (0, "None", 0.0), "task", "two")[1] == "None"


def test_the_pool_runs_the_job_and_is_otherwise_itself():
    calls: list[Any] = []

    class Pool:
        limit = 3

        def apply_async(self, function: Any, args: tuple[Any, ...], **options: Any) -> str:
            calls.append((function, args, options))
            return "promise"

    pool = TracingPool(Pool())
    assert pool.limit == 3
    assert pool.apply_async(print, args=("task", "id"), soft_timeout=5) == "promise"
    assert calls == [(trace_job, (print, "task", "id"), {"soft_timeout": 5})]
