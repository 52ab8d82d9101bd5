"""Tasks come through RabbitMQ, their results stand here: groups, chords, waiting, forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery, chord, group
from celery.exceptions import ChordError
from celery.result import GroupResult

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker, producing
from .rows import Rows, assert_finished
from .tasks import add, tsum
from .test_chords import CANVASES

pytestmark = pytest.mark.peer

#: A queue of this run's own, for others may use the same server.
QUEUE = f"pgjobs-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module")
def conf(url: str, rabbitmq_url: str) -> Iterator[dict[str, object]]:
    """What worker and producer have in common; the queue goes with the last test."""
    yield {
        "result_backend": url,
        "task_default_queue": QUEUE,
        "task_queues": None,
        "worker_enable_remote_control": False,
    }
    with Celery(broker=rabbitmq_url, set_as_current=False).connection_for_write() as connection:
        connection.default_channel.queue_delete(QUEUE)


@pytest.fixture(scope="module")
def running(conf: dict[str, object], module_worker: StartWorker, rabbitmq_url: str) -> Worker:
    """One worker for all tests but those that kill theirs."""
    return module_worker(broker=rabbitmq_url, concurrency=2, conf=conf)


@pytest.fixture
def app(conf: dict[str, object], rabbitmq_url: str) -> Iterator[Celery]:
    """The workers' app, here as the producer."""
    before = {name: tasks.app.conf[name] for name in conf}
    with producing(tasks.app, rabbitmq_url) as app:
        app.conf.update(conf)
        yield app
    tasks.app.conf.update(before)


#: Celery tells the backend nothing of a task that raised Ignore, and there is no row that could; a
#: task that another adds may be done before it.
ONLY_HERE = ("a task that is ignored", "a task that adds another")


@pytest.mark.parametrize("what", [what for what in CANVASES if what not in ONLY_HERE])
def test_every_canvas_ends(app: Celery, running: Worker, what: str):
    make, expected = CANVASES[what]
    assert make().apply_async().get(timeout=20) == expected


def test_a_header_that_fails_fails_the_body(app: Celery, running: Worker, rows: Rows):
    result = chord([add.s(1, 1), tasks.fail.si()])(tsum.s())
    wait_for(result.ready)
    assert isinstance(result.result, ChordError)
    assert_finished(rows.get(result.id), "discarded")
    nested = chord([chord([tasks.fail.si()], tsum.s()), add.s(1, 1)])(tsum.s() | add.s(1))
    wait_for(nested.ready)
    assert isinstance(nested.result, ChordError)


def test_a_chord_of_a_hundred_chains(app: Celery, running: Worker, rows: Rows):
    result = chord([add.s(number, 1) | add.s(1) for number in range(100)])(tsum.s())
    assert result.get(timeout=30) == sum(range(100)) + 200
    assert rows.select("SELECT * FROM pgjobs.jobs WHERE task = 'celery.chord_unlock'") == []


def test_a_group_is_saved_waited_for_and_forgotten(app: Celery, running: Worker, rows: Rows):
    result = group(add.s(number, number) for number in range(20))()
    result.save()
    # Celery before 5.7 keeps one waiter for each id.
    other = Celery("other", backend=app.conf.result_backend, set_as_current=False)
    restored = GroupResult.restore(result.id, app=other)
    assert restored.get(timeout=20) == list(range(0, 40, 2))
    restored.forget()
    restored.delete()
    other.close()
    assert GroupResult.restore(result.id, app=app) is None
    ids = [each.id for each in result.results]
    assert rows.select("SELECT * FROM pgjobs.jobs WHERE task_id = ANY(%s)", ids) == []


def test_every_state_is_heard_of(app: Celery, running: Worker, tmp_path: Path):
    heard = []
    release = tmp_path / "release"

    def hear(meta: dict[str, object]) -> None:
        heard.append(meta["status"])
        if meta["status"] == "PROGRESS":
            release.touch()

    result = tasks.report_progress.delay(str(release))
    assert result.get(timeout=20, on_message=hear) == "done"
    assert heard == ["PROGRESS", "SUCCESS"]
    retried = tasks.retry.delay(2, 0.1)
    heard.clear()
    assert retried.get(timeout=20, on_message=hear) == 2
    assert heard[-1] == "SUCCESS"
    assert set(heard) == {"RETRY", "SUCCESS"}


def test_the_row_tells_how_a_task_ended(app: Celery, running: Worker, rows: Rows):
    # Not at once: Celery publishes a retry first, and it may have ended before its predecessor
    # has said why it failed. What is said of a job that has ended is not written.
    retried, failed = tasks.retry.delay(2, 0.5), tasks.retry_in_vain.delay(0.5)
    assert retried.get(timeout=20) == 2
    failed.get(timeout=20, propagate=False)
    assert_finished(rows.get(retried.id), attempt=3)
    assert_finished(rows.get(failed.id), "discarded", attempt=2)
    assert [entry["attempt"] for entry in rows.get(retried.id)["errors"]] == [1, 2]
    assert [entry["attempt"] for entry in rows.get(failed.id)["errors"]] == [1, 2]


@pytest.mark.parametrize(
    "fault",
    [
        "after results.upsert_result",
        "before groups.lock_chord",
        "after groups.get_parts",
        "before groups.close_chord",
    ],
)
def test_a_body_comes_although_its_worker_dies(
    fault: str, worker: StartWorker, app: Celery, rabbitmq_url: str, conf: dict[str, object],
    rows: Rows, tmp_path: Path,
):  # fmt: skip
    queue = f"{QUEUE}-{uuid4().hex[:6]}"
    body = tmp_path / "body"
    mine = {**conf, "task_default_queue": queue}
    app.conf.task_default_queue = queue
    app.amqp.queues = app.amqp.Queues(None)
    try:
        victim = worker(
            broker=rabbitmq_url, pool="solo", conf=mine, env={"PGJOBS_TEST_FAULT": fault}
        )
        result = chord([tasks.record_late.s(str(tmp_path / "header"), 1)])(
            tasks.record_sum.s(str(body))
        )
        wait_for(lambda: victim.process.poll() is not None, 15)
        heir = worker(broker=rabbitmq_url, pool="threads", conf=mine)
        assert result.get(timeout=20) == 1
        # Of one that died between publishing and the commit there may be a second one.
        count = len(body.read_text().splitlines())
        assert count in ((1, 2) if fault == "before groups.close_chord" else (1,))
        heir.stop()  # it would declare its queue again
    finally:
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(queue)
