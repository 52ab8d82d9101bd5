"""Broker and backend need not be the same; with neither, the package keeps out of the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery, chord, group
from kombu import pools

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker
from .rows import Rows, assert_finished

pytestmark = pytest.mark.peer

MakeProducer = Callable[[str, str], Celery]


@pytest.fixture
def producer() -> Iterator[MakeProducer]:
    """A factory of apps that know the tasks by name only."""
    apps = []

    def make(broker: str, backend: str) -> Celery:
        app = Celery("producer", broker=broker, backend=backend, set_as_current=False)
        apps.append(app)
        return app

    yield make
    pools.reset()
    for app in apps:
        app.backend.client.close() if hasattr(app.backend, "client") else app.backend.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_results_may_go_to_another_backend(
    pool: str, worker: StartWorker, producer: MakeProducer, rows: Rows, url: str, redis_url: str
) -> None:
    worker(pool=pool, conf={"result_backend": redis_url})
    app = producer(url, redis_url)
    good = app.send_task("tests.e2e.tasks.add", (1, 2))
    bad = app.send_task("tests.e2e.tasks.fail")
    again = app.send_task("tests.e2e.tasks.retry", (1,))
    assert good.get(timeout=10) == 3
    assert again.get(timeout=10) == 1
    with pytest.raises(Exception, match="no"):
        bad.get(timeout=10)
    assert_finished(rows.wait(good.id))
    assert_finished(rows.wait(again.id), attempt=2)
    row = rows.wait(bad.id)
    assert_finished(row, "discarded")
    assert row["errors"][0]["type"] == "CustomError"
    assert rows.get(good.id)["result"] is None


def test_groups_and_chords_of_another_backend(
    worker: StartWorker, producer: MakeProducer, rows: Rows, url: str, redis_url: str
) -> None:
    worker(pool="prefork", conf={"result_backend": redis_url})
    app = producer(url, redis_url)
    add, fail, total = (
        app.signature(f"tests.e2e.tasks.{name}") for name in ("add", "fail", "tsum")
    )
    added = group(add.clone((number, 1)) for number in range(5))()
    assert added.get(timeout=10) == [1, 2, 3, 4, 5]
    summed = chord([add.clone((1, 1)), add.clone((2, 2)) | add.clone((1,))])(total.clone())
    assert summed.get(timeout=10) == 7
    assert_finished(rows.wait(summed.id))
    failed = chord([add.clone((1, 1)), fail.clone()])(total.clone())
    with pytest.raises(Exception, match="no"):
        failed.get(timeout=10)
    (row,) = rows.select("SELECT * FROM pgjobs.jobs WHERE task = %s", tasks.fail.name)
    assert_finished(rows.wait(row["task_id"]), "discarded")
    rows.wait_count(completed=10, discarded=1)


WARNING = "counts its members elsewhere"
#: A worker looks for such chords at each poll.
QUICK = {"broker_transport_options": {"poll_interval": 0.1}}


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_worker_that_counts_chords_elsewhere_says_so_once(
    pool: str, worker: StartWorker, producer: MakeProducer, rows: Rows, url: str, redis_url: str
) -> None:
    """The publishers have the new result backend, and this worker still has the old one."""
    started = worker(pool=pool, conf={"result_backend": redis_url, **QUICK})
    app = producer(url, url)
    add, total = (app.signature(f"tests.e2e.tasks.{name}") for name in ("add", "tsum"))
    for _ in range(2):
        chord([add.clone((number, 1)) for number in range(3)])(total.clone())
        wait_for(lambda: WARNING in started.log)
    rows.wait_count(completed=6)
    assert started.stop() == 0
    (line,) = [line for line in started.log.splitlines() if WARNING in line]
    assert "WARNING" in line
    assert redis_url.rpartition("@")[2].rstrip("/") in line
    assert "the same result_backend" in line


def test_a_worker_that_counts_the_chords_of_its_own_backend_says_nothing(
    worker: StartWorker, producer: MakeProducer, rows: Rows, url: str, redis_url: str
) -> None:
    started = worker(pool="threads", conf={"result_backend": redis_url, **QUICK})
    app = producer(url, redis_url)
    add, total = (app.signature(f"tests.e2e.tasks.{name}") for name in ("add", "tsum"))
    result = chord([add.clone((number, 1)) for number in range(3)])(total.clone())
    assert result.get(timeout=10) == 6
    rows.wait_count(completed=4)
    assert started.stop() == 0
    assert WARNING not in started.log


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_results_of_tasks_that_came_through_another_broker_are_stored(
    pool: str, worker: StartWorker, producer: MakeProducer, rows: Rows, url: str, redis_url: str
) -> None:
    queue = f"peer-{pool}"
    worker(pool=pool, broker=redis_url, queues=[queue], conf={"result_backend": url})
    app = producer(redis_url, url)
    good = app.send_task("tests.e2e.tasks.add", (1, 2), queue=queue)
    bad = app.send_task("tests.e2e.tasks.fail", queue=queue)
    assert good.get(timeout=10) == 3
    with pytest.raises(Exception, match="no"):
        bad.get(timeout=10)
    row = rows.wait(good.id)
    assert_finished(row)
    assert (row["task"], row["message"]) == ("tests.e2e.tasks.add", None)
    assert_finished(rows.wait(bad.id), "discarded")


def test_a_worker_of_another_broker_is_left_alone(
    worker: StartWorker, producer: MakeProducer, rows: Rows, redis_url: str, tmp_path: Path
) -> None:
    queue = "peer-alone"
    started = worker(pool="prefork", broker=redis_url, queues=[queue])
    app = producer(redis_url, redis_url)
    result = app.send_task("tests.e2e.tasks.add", (1, 2), queue=queue)
    assert result.get(timeout=10) == 3
    again = app.send_task("tests.e2e.tasks.retry", (1,), queue=queue)
    assert again.get(timeout=10) == 1
    assert rows.count() == {}
    assert rows.nodes() == {}
    assert "pgjobs" not in started.log.lower().replace("pgjobs_celery", "")
    assert tasks.add.name in started.log
    assert started.stop() == 0
