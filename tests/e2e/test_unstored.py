"""A result of which nothing was stored reads as what was stored last, as with other backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import celery
import pytest
from celery import Celery, chord, group
from celery.exceptions import TimeoutError
from celery.states import READY_STATES

from pgjobs_celery import aget, jobs

from ..conftest import close_app
from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows

#: How a task ends, with which options and states of its own, what reads, and what its row says.
ENDS: list[tuple[str, dict[str, Any], list[str], str, str]] = [
    ("ignore", {}, [], "PENDING", "completed"),
    ("ignore", {}, ["STARTED"], "STARTED", "completed"),
    ("ignore", {}, ["PROGRESS", "MINE"], "MINE", "completed"),
    ("retry and ignore", {}, [], "RETRY", "completed"),
    ("retry and ignore", {}, ["MINE"], "MINE", "completed"),
    ("reject", {"ignore_result": True}, [], "PENDING", "discarded"),
    ("reject", {"ignore_result": True}, ["MINE"], "MINE", "discarded"),
    ("return", {"ignore_result": True}, [], "PENDING", "completed"),
    ("return", {"ignore_result": True}, ["MINE"], "MINE", "completed"),
    ("fail", {"ignore_result": True}, [], "PENDING", "discarded"),
    ("fail", {"ignore_result": True}, ["MINE"], "MINE", "discarded"),
    ("retry and ignore", {"ignore_result": True}, [], "PENDING", "completed"),
    ("retry and return", {"ignore_result": True}, [], "PENDING", "completed"),
    ("retry and return", {"ignore_result": True}, ["MINE"], "MINE", "completed"),
    ("retry and fail", {"ignore_result": True}, [], "PENDING", "discarded"),
]
TASKS = [tasks.end_unstored, tasks.end_unstored_late]


class Run:
    """A worker, and the app and queue through which it is given tasks."""

    def __init__(self, app: Celery, queue: str, is_here: bool) -> None:
        self.app, self.queue, self.is_here = app, queue, is_here

    def send(self, task: Any, *args: Any, **options: Any) -> Any:
        return self.app.send_task(task.name, args, queue=self.queue, **options)

    def until_done(self) -> None:
        """Its pool runs one task after the other: the next one is done, and so are the others."""
        for _ in range(2):  # the first may run while the outcome of the last is written
            assert self.send(tasks.add, 1, 2).get(timeout=10) == 3


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(
    scope="module",
    params=["prefork", "threads", "solo", pytest.param("redis", marks=pytest.mark.peer)],
)
def run(
    module_worker: StartWorker, module_url: str, request: pytest.FixtureRequest
) -> Iterator[Run]:
    is_here = request.param != "redis"
    broker = module_url if is_here else request.getfixturevalue("redis_url")
    queue = f"unstored-{uuid4().hex[:8]}"
    conf = {"result_backend": broker, "result_expires": 60}
    pool = request.param if is_here else "solo"
    module_worker(pool=pool, concurrency=1, broker=broker, queues=[queue], conf=conf)
    app = Celery("producer", broker=broker, backend=broker, set_as_current=False)
    app.conf.result_expires = 60
    yield Run(app, queue, is_here)
    close_app(app)


def is_remembered(run: Run, task: Any, how: str, options: dict[str, Any]) -> bool:
    """Before Celery 5.7 a retry forgets that the caller ignores the result; our own does not.

    Celery 5.5 also stores each failure and retry of its own although the caller ignores the result.
    """
    is_ours = task is tasks.end_unstored_pgtask
    if celery.VERSION >= (5, 7) or not options:
        return True
    if celery.VERSION < (5, 6) and how.endswith("fail"):
        return False
    if is_ours and run.is_here:
        return True
    return not (how.startswith("retry and") or (is_ours and how == "fail"))


def reading_of(run: Run, task: Any, how: str, options: dict[str, Any], reading: str) -> str:
    if is_remembered(run, task, how, options):
        return reading
    stored = {"return": "SUCCESS", "fail": "FAILURE"}
    if celery.VERSION < (5, 6):
        stored["ignore"] = "RETRY"
    return stored.get(how.removeprefix("retry and "), reading)


@pytest.mark.parametrize(
    "task", [*TASKS, tasks.end_unstored_pgtask], ids=["early", "late", "PgTask"]
)
def test_what_was_stored_last_stands(run: Run, task: Any, request: pytest.FixtureRequest):
    results = [run.send(task, how, reports, **options) for how, options, reports, _, _ in ENDS]
    run.until_done()
    if run.is_here:  # the next attempt of a PgTask may come after what was sent later
        rows: Rows = request.getfixturevalue("rows")
        found = [rows.wait(result.id)["state"] for result in results]
        assert found == [state for *_, state in ENDS]
        assert [jobs(run.app).get(result.id).state for result in results] == found
    read = [run.app.AsyncResult(result.id) for result in results]
    readings = [
        reading_of(run, task, how, options, reading) for how, options, _, reading, _ in ENDS
    ]
    assert [each.state for each in read] == readings
    for (how, _, reports, _, _), reading, each in zip(ENDS, readings, read, strict=True):
        if reading in READY_STATES:
            continue
        if reports:
            assert each.info == {"said": reports[-1]}
        elif reading == "RETRY":
            assert "first" in str(each.info)
        else:
            assert each.info is None, how
        assert not each.ready()
        with pytest.raises(TimeoutError):  # Celery before 5.7 takes 0 for no limit
            each.get(timeout=0 if run.is_here else 0.1)
    if hasattr(run.app.backend, "task_result_exists"):
        exist = [run.app.backend.task_result_exists(each.id) for each in read]
        assert exist == [reading != "PENDING" for reading in readings]


def test_a_setting_reads_them_as_their_rows_end(run: Run, make_reader: Callable[..., Celery]):
    if not run.is_here:
        pytest.skip("Redis has no such setting")
    results = [
        run.send(tasks.end_unstored, how, reports, **options)
        for how, options, reports, _, _ in ENDS
    ]
    run.until_done()
    app = make_reader(pgjobs_result_from_row=True)
    reads = {"completed": "SUCCESS", "discarded": "FAILURE"}
    for (how, options, *_, state), result in zip(ENDS, results, strict=True):
        read = app.AsyncResult(result.id)
        assert read.state == reads[state]
        if state == "completed":
            is_stored = how == "retry and return" and not is_remembered(
                run, tasks.end_unstored, how, options
            )
            assert read.get(timeout=10) == ("never seen" if is_stored else None)
        else:
            with pytest.raises(Exception, match="no"):
                read.get(timeout=10)


@pytest.fixture
def make_reader(module_url: str) -> Iterator[Callable[..., Celery]]:
    """An app that reads results with other settings."""
    apps = []

    def make(**conf: Any) -> Celery:
        apps.append(Celery("reader", broker=module_url, backend=module_url, set_as_current=False))
        apps[-1].conf.update(conf)
        return apps[-1]

    yield make
    for app in apps:
        app.backend.close()


def test_a_handle_knows_that_its_result_is_ignored_and_waits_for_nothing(run: Run):
    result = run.send(tasks.end_unstored, "return", ignore_result=True)
    assert result.get(timeout=0) is None
    run.until_done()
    assert result.get() is None


def test_a_failure_that_is_stored_though_results_are_ignored_is_read(run: Run):
    result = run.send(tasks.fail_kept, ignore_result=True)
    run.until_done()
    read = run.app.AsyncResult(result.id)
    assert read.state == "FAILURE"
    with pytest.raises(Exception, match="no"):
        read.get(timeout=10)


def test_what_ends_a_job_from_outside_is_stored(run: Run, request: pytest.FixtureRequest):
    """Expired and unknown: somebody who waits for it must not wait for ever."""
    expired = run.send(tasks.add, 1, 2, expires=-1)
    unknown = run.app.send_task("tests.unknown", queue=run.queue)
    run.until_done()
    wait_for(lambda: run.app.AsyncResult(expired.id).state == "REVOKED")
    wait_for(lambda: run.app.AsyncResult(unknown.id).state == "FAILURE")


def test_what_a_task_rejects_for_good_has_failed(run: Run):
    """As Celery has it from 5.7 on; with the other backends of older ones it is PENDING."""
    results = [run.send(task, "reject", reports) for task in TASKS for reports in ([], ["MINE"])]
    run.until_done()
    if run.is_here or celery.VERSION >= (5, 7):
        for result in results:
            assert run.app.AsyncResult(result.id).state == "FAILURE"


def test_members_of_a_group_are_waited_for_as_with_other_backends(run: Run):
    add, end = (
        run.app.signature(task.name).set(queue=run.queue)
        for task in (tasks.add, tasks.end_unstored)
    )
    good = group(add.clone((1, 1)), add.clone((2, 2)))()
    assert good.get(timeout=10) == [2, 4]
    bad = group(add.clone((1, 1)), end.clone(("ignore",)))()
    run.until_done()
    with pytest.raises(TimeoutError):
        bad.get(timeout=0.5)
    assert (bad.completed_count(), bad.ready()) == (1, False)


def test_the_body_of_a_chord_gets_what_became_of_its_header(
    run: Run, request: pytest.FixtureRequest
):
    if not run.is_here:
        pytest.skip("on Redis a chord with a task that raised Ignore never ends")
    add, end, total = (
        run.app.signature(task.name).set(queue=run.queue)
        for task in (tasks.add, tasks.end_unstored, tasks.show_all)
    )
    header = [
        add.clone((1, 1)),
        end.clone(("ignore", ["MINE"])),
        end.clone(("ignore",)),
        end.clone(("return",)).set(ignore_result=True),
    ]
    assert chord(header)(total.clone()).get(timeout=10) == [2, None, None, "never seen"]
    failed = chord([*header, end.clone(("reject", ["MINE"]))])(total.clone())
    with pytest.raises(Exception, match="'no', False"):
        failed.get(timeout=10)


def test_a_coroutine_waits_as_get_does(run: Run):
    if not run.is_here:
        pytest.skip("aget() waits in a thread there")
    import asyncio

    result = run.send(tasks.end_unstored, "ignore", ["MINE"])

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await aget(run.app.AsyncResult(result.id), timeout=0.5)
        ignored = run.send(tasks.end_unstored, "return", ignore_result=True)
        assert await aget(ignored, timeout=10) is None

    asyncio.run(wait())
