"""Tasks that are coroutines: on the pool that is made for them, and on all others."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded

from pgjobs_celery import jobs
from pgjobs_celery.errors import CoroutineCancelled

from ..conftest import close_app
from ..support.waiting import wait_for
from . import coroutine_tasks as tasks
from .conftest import StartWorker, Worker
from .rows import Rows

pytest.importorskip("greenlet")

APP = "tests.e2e.coroutine_tasks"
CUSTOM = {"CELERY_CUSTOM_WORKER_POOL": "pgjobs_celery.worker.aio:TaskPool"}

#: The pools that are Celery's own.
OTHERS = [
    "prefork", "threads", "solo", *(each for each in ("gevent", "eventlet") if find_spec(each))
]  # fmt: skip


def wait_until_begun(started: Worker, result: Any) -> None:
    """A job is claimed before its task begins, and one that has not begun is put back."""
    wait_for(lambda: f"began {result.id}" in started.log)


def start(worker: StartWorker, **options: Any) -> Worker:
    return worker(**{"app": APP, "pool": "custom", "env": CUSTOM, "concurrency": 50, **options})


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests tell their jobs apart by id."""
    return module_url


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    tasks.app.conf.update(broker_url=url, result_backend=url)
    yield tasks.app
    close_app(tasks.app)


@pytest.fixture(scope="module")
def running(module_worker: StartWorker) -> Worker:
    """The worker of most tests."""
    return start(module_worker, conf={"pgjobs_heartbeat_interval": 1, "pgjobs_lease": 4})


def test_each_sees_itself_while_others_run(app: Celery, running: Worker):
    results = [tasks.look.delay(number) for number in range(100)]

    assert [each.get(timeout=30) for each in results] == [[n, n, n] for n in range(100)]


def test_what_a_coroutine_publishes_has_it_as_parent(app: Celery, running: Worker):
    result = tasks.publish_children.delay()

    for child in result.get(timeout=20):
        job = jobs(app).get(child)
        assert job is not None
        assert (job.parent_id, job.root_id) == (result.id, result.id)


def test_threads_that_a_coroutine_calls_see_its_task(app: Celery, running: Worker, tmp_path: Path):
    results = [tasks.see_itself_in_threads.delay() for _ in range(10)]
    progress = tasks.tell_progress.delay(str(tmp_path / "release"))

    assert [each.get(timeout=20) for each in results] == [[True] * 3] * 10
    wait_for(lambda: (progress.state, progress.info) == ("PROGRESS", {"done": 1}))
    (tmp_path / "release").touch()
    assert progress.get(timeout=20) is None


def test_canvas_retries_and_replacements_are_as_elsewhere(app: Celery, running: Worker):
    add = tasks.add

    assert chain(add.s(1, 2), add.s(3))().get(timeout=20) == 6
    assert group(add.s(n, n) for n in range(3))().get(timeout=20) == [0, 2, 4]
    assert chord([add.s(n, 1) for n in range(10)])(tasks.tsum.s()).get(timeout=20) == 55
    assert tasks.retry_twice.delay().get(timeout=20) == 2
    assert tasks.replaced.delay().get(timeout=20) == 42


def test_autoretry_sees_what_a_coroutine_raises(app: Celery, running: Worker):
    result = tasks.retried_by_celery.delay()

    with pytest.raises(OSError, match="not there"):
        result.get(timeout=20)
    wait_for(lambda: running.log.count(f"retried_by_celery[{result.id}] retry: ") == 2)


def test_map_starmap_and_chunks_await_each(app: Celery, running: Worker):
    assert tasks.tsum.map([[1, 2], [3, 4]]).delay().get(timeout=20) == [3, 7]
    assert tasks.add.starmap([(1, 2), (3, 4)]).delay().get(timeout=20) == [3, 7]
    assert tasks.add.chunks([(1, 2), (3, 4)], 1)().get(timeout=20) == [[3], [7]]


@pytest.mark.parametrize("errback", ["hear", "hear_as_pgtask", "hear_by_id"])
def test_an_errback_may_be_a_coroutine(app: Celery, running: Worker, errback: str):
    result = tasks.fail.apply_async(link_error=getattr(tasks, errback).s())
    name = errback.removesuffix("_as_pgtask")

    wait_for(lambda: f"{name}: {result.id}" in running.log)
    assert "never awaited" not in running.log


def test_a_child_that_is_cancelled_before_it_begins_is_as_in_asyncio(app: Celery, running: Worker):
    assert tasks.cancel_at_once.delay().get(timeout=20) == "CancelledError"
    assert "never awaited" not in running.log


def test_a_pgtask_has_attempts_meta_snooze_and_cancel(app: Celery, running: Worker, rows: Rows):
    assert tasks.attempt_twice.delay().get(timeout=20) == 2
    assert tasks.annotate.delay("plain").get(timeout=20) == {"done": 50, "of": 100}
    snoozed = tasks.annotate.delay("snooze")
    assert snoozed.get(timeout=20) == {"snoozed": True, "done": 50, "of": 100}
    with pytest.raises(TaskRevokedError, match="as it was told"):
        tasks.annotate.delay("cancel").get(timeout=20)


def test_a_cancelled_job_ends_its_coroutine_by_a_cancellederror(
    app: Celery, running: Worker, rows: Rows
):
    result = tasks.wait.delay()
    wait_until_begun(running, result)
    before = running.log.count("wait: c")

    jobs(app).filter(id=result.id).cancel("enough")

    row = rows.wait(result.id)
    assert (row["state"], row["cancel_reason"]) == ("cancelled", "enough")
    # Its except and its finally have run, and what these awaited.
    wait_for(lambda: running.log.count("wait: c") == before + 2)
    # Half a second is what is promised; a busy machine may take longer.
    (took,) = rows.select(
        "SELECT extract(epoch FROM finished_at - cancel_requested_at)::float AS s FROM pgjobs.jobs "
        "WHERE task_id = %s", result.id
    )  # fmt: skip
    assert took["s"] < 5


def test_a_coroutine_that_swallows_its_cancellation_has_its_result(
    app: Celery, running: Worker, rows: Rows
):
    result = tasks.go_on_all_the_same.delay()
    wait_until_begun(running, result)

    jobs(app).filter(id=result.id).cancel()

    assert rows.wait(result.id)["state"] == "completed"


def test_a_terminated_one_that_never_ends_is_left_to_itself(
    app: Celery, running: Worker, rows: Rows
):
    result = tasks.never_end.delay()
    wait_until_begun(running, result)

    jobs(app).filter(id=result.id).cancel(terminate=True)

    wait_for(lambda: f"never_end[{result.id}] goes on although" in running.log)
    assert rows.wait(result.id)["state"] == "cancelled"
    assert tasks.add.delay(1, 2).get(timeout=20) == 3


def test_limits_are_exceptions_in_the_coroutine(app: Celery, running: Worker, rows: Rows):
    assert tasks.catch_limit.delay().get(timeout=20) == SoftTimeLimitExceeded.__name__
    with pytest.raises(TimeLimitExceeded):
        tasks.exceed_limit.delay().get(timeout=20)
    assert tasks.exceed_once.delay().get(timeout=20) == 2


def test_a_cancellederror_of_its_own_is_a_failure(app: Celery, running: Worker, rows: Rows):
    result = tasks.cancel_own_child.delay()

    with pytest.raises(CoroutineCancelled, match="something that it awaited"):
        result.get(timeout=20)


def test_a_forgotten_asyncio_task_is_reported(app: Celery, running: Worker):
    tasks.forget_child.delay().get(timeout=20)

    wait_for(
        lambda: "an asyncio task that it began has not: <Task pending name='forgot" in running.log
    )


def test_a_task_that_blocks_the_loop_is_named_and_costs_no_lease(
    app: Celery, running: Worker, rows: Rows
):
    result = tasks.block.delay(6)  # longer than the lease
    wait_for(lambda: f"block[{result.id}] holds up the event loop" in running.log, timeout=30)
    assert "time.sleep(seconds)" in running.log
    # Remote control and threads go on meanwhile.
    assert app.control.inspect(destination=[running.name], timeout=5).ping()
    assert tasks.in_a_thread.delay().get(timeout=10)[0] == 7

    assert result.get(timeout=40) is None
    assert rows.get(result.id)["attempt"] == 1


def test_other_tasks_run_in_threads_and_have_loops_of_their_own(app: Celery, running: Worker):
    returned, thread = tasks.in_a_thread.delay().get(timeout=20)

    assert returned == 7
    assert thread.startswith("pgjobs-task")


def test_a_task_that_leaves_its_process_fails_alone(app: Celery, running: Worker, rows: Rows):
    result = tasks.leave.delay()

    assert rows.wait(result.id)["state"] == "discarded"
    assert tasks.add.delay(1, 2).get(timeout=20) == 3


def test_many_wait_over_three_connections(app: Celery, running: Worker, rows: Rows):
    results = [tasks.wait.delay(2) for _ in range(50)]
    wait_for(lambda: all(rows.get(each.id)["state"] == "executing" for each in results[-5:]))
    connections = rows.select(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'pgjobs-celery'"
    )

    assert [each.get(timeout=30) for each in results] == ["slept"] * 50
    # The worker's three, and those of this process.
    assert connections[0]["n"] <= 3 + 4


def test_a_warm_shutdown_waits_for_coroutines(app: Celery, worker: StartWorker, rows: Rows):
    stopping = start(worker, queues=["warm"])
    result = tasks.wait.apply_async((1.5,), queue="warm")
    wait_until_begun(stopping, result)

    assert stopping.stop() == 0
    assert rows.get(result.id)["state"] == "completed"


def test_a_cold_shutdown_ends_them_and_settles_their_rows(
    app: Celery, worker: StartWorker, rows: Rows
):
    stopping = start(worker, queues=["cold"])
    early = tasks.wait.apply_async(queue="cold")
    late = tasks.annotate.apply_async(("plain",), queue="none")
    wait_until_begun(stopping, early)

    stopping.stop(signal.SIGQUIT)

    assert rows.get(early.id)["state"] == "discarded"
    assert "wait: cleaned up" in stopping.log
    assert rows.get(late.id)["state"] == "available"


def test_jobs_of_a_killed_worker_end_as_on_other_pools(
    app: Celery, worker: StartWorker, rows: Rows
):
    killed = start(worker, queues=["killed"], conf={"task_acks_late": False})
    early = [tasks.wait.apply_async(queue="killed") for _ in range(5)]
    for each in early:
        wait_until_begun(killed, each)
    killed.kill()
    start(worker, queues=["killed"])

    for each in early:
        assert rows.wait(each.id, timeout=60)["state"] == "discarded"
        assert rows.get(each.id)["attempt"] == 1


@pytest.mark.skipif(not find_spec("gevent"), reason="gevent is not installed")
def test_gevent_in_the_same_process_is_refused(worker: StartWorker):
    refused = start(worker, env={**CUSTOM, "PGJOBS_TEST_PATCH": "gevent"}, wait=False)

    assert refused.process.wait(30) != 0
    assert "which gevent has patched away" in refused.log


@pytest.mark.parametrize("pool", OTHERS)
def test_coroutines_run_on_other_pools(app: Celery, worker: StartWorker, rows: Rows, pool: str):
    start(worker, pool=pool, env={}, concurrency=2, queues=[pool])

    def run(task: Any, *args: Any) -> Any:
        return task.apply_async(args, queue=pool).get(timeout=30)

    assert run(tasks.add, 1, 2) == 3
    assert run(tasks.look, 5) == [5, 5, 5]
    if pool not in ("gevent", "eventlet"):  # which have patched the threads away
        assert run(tasks.see_itself_in_threads) == [True] * 3
    assert run(tasks.attempt_twice) == 2
    assert run(tasks.annotate, "plain") == {"done": 50, "of": 100}
    with pytest.raises(CoroutineCancelled):
        run(tasks.cancel_own_child)
    if pool == "solo":
        assert run(tasks.loop_number) == run(tasks.loop_number)
    if pool == "prefork":
        assert run(tasks.catch_limit) == SoftTimeLimitExceeded.__name__
