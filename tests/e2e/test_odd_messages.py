"""What cannot be run is set aside with its reason; what a task publishes has rows of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
from celery import Celery, chain
from celery.exceptions import NotRegistered

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Rows, assert_finished, errors


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"], autouse=True)
def running(module_worker: StartWorker, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One worker in each pool, for all tests."""
    started = module_worker(pool=request.param)
    yield started
    assert started.stop() == 0


def publish(url: str, body: bytes, **properties: Any) -> str:
    """Publish a task message by hand; its id."""
    headers = {
        "task": "tests.e2e.tasks.add", "id": str(kombu.uuid()), "lang": "py", "root_id": None,
        "parent_id": None, **properties.pop("headers", {}),
    }  # fmt: skip
    properties = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
    with kombu.Connection(url) as connection:
        producer = connection.Producer()
        producer.publish(body, routing_key="celery", headers=headers, **properties)
    return str(headers["id"])


def assert_still_works() -> None:
    assert tasks.add.delay(1, 2).get(timeout=10) == 3


def test_an_unknown_task_is_discarded_and_says_so(app: Celery, rows: Rows) -> None:
    result = app.send_task("tests.e2e.tasks.no_such_task", (1, 2))
    with pytest.raises(NotRegistered):
        result.get(timeout=10)
    row = rows.wait(result.id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, "NotRegistered")]
    assert "no_such_task" in row["errors"][0]["message"]
    assert_still_works()


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (b"{ this is not JSON", {}),
        (b"\xff\xfe\x00", {}),
        (b"[[1, 2], {}, {}]", {"content_type": "application/x-unheard-of"}),
        (b"not a pickle", {"content_type": "application/x-python-serialize"}),
        (b"not compressed", {"headers": {"compression": "application/x-gzip"}}),
        (b'"neither args nor kwargs"', {}),
        (b"[[1, 2], {}, {}]", {"headers": {"expires": "the day after"}}),
    ],
    ids=["syntax", "bytes", "type", "pickle", "compression", "shape", "expires"],
)
def test_a_message_that_cannot_be_read_is_set_aside(
    body: bytes, properties: dict[str, Any], app: Celery, rows: Rows, url: str
) -> None:
    row = rows.wait(publish(url, body, **properties))
    assert_finished(row, "discarded")
    ((attempt, kind),) = errors(row)
    assert attempt == 1
    assert kind
    assert row["errors"][0]["message"]
    assert_still_works()


def test_a_row_that_is_damaged_is_set_aside(app: Celery, rows: Rows) -> None:
    result = tasks.add.apply_async((1, 2), countdown=0.5)
    rows.select(
        "UPDATE pgjobs.jobs SET message = 'damaged' WHERE task_id = %s RETURNING id", result.id
    )
    row = rows.wait(result.id)
    assert_finished(row, "discarded")
    assert errors(row) == [(1, "UndecodableRow")]
    assert_still_works()


def test_a_task_publishes_from_where_it_runs(app: Celery, rows: Rows, tmp_path: Path) -> None:
    parent = tasks.publish_many.delay(str(tmp_path / "lines"), 20)
    ids = parent.get(timeout=10)
    for number, task_id in enumerate(ids):
        assert app.AsyncResult(task_id).get(timeout=10) == number
        row = rows.get(task_id)
        assert_finished(row)
        assert (row["root_id"], row["parent_id"]) == (parent.id, parent.id)


def test_each_step_of_a_chain_has_its_row(app: Celery, rows: Rows) -> None:
    last = chain(tasks.add.s(1, 1), tasks.add.s(10), tasks.add.s(100)).apply_async()
    assert last.get(timeout=10) == 112
    steps = [last.parent.parent, last.parent, last]
    for number, step in enumerate(steps):
        row = rows.wait(step.id)
        assert_finished(row)
        assert row["root_id"] == steps[0].id
        assert row["parent_id"] == (steps[number - 1].id if number else None)
        assert int(row["result"]) == [2, 12, 112][number]


def test_a_chain_stops_at_the_step_that_fails(app: Celery, rows: Rows) -> None:
    last = chain(tasks.add.s(1, 1), tasks.fail.si(), tasks.add.si(1, 1)).apply_async()
    rows.wait(last.parent.id, "discarded")
    assert rows.wait(last.parent.parent.id)["state"] == "completed"
    # Celery has the steps that never come fail as well; there is nothing to run in that row.
    row = rows.wait(last.id)
    assert (row["state"], row["message"], row["attempted_by"]) == ("discarded", None, None)
    assert last.state == "FAILURE"


def test_a_task_that_is_replaced_goes_on_under_its_id(app: Celery, rows: Rows) -> None:
    result = tasks.replace.delay(1, 2)
    assert result.get(timeout=10) == 3
    row = rows.wait(result.id)
    assert_finished(row, attempt=2)
    assert row["task"] == "tests.e2e.tasks.add"
    wait_for(lambda: rows.get(result.id)["state"] == "completed")
