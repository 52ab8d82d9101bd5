"""Sentry's and OpenTelemetry's packages, as they come, see each of many interleaved coroutines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ..support.waiting import wait_for
from .conftest import producing, running_workers
from .test_coroutines import CUSTOM

pytest.importorskip("greenlet")
# Not there without the packages.
watched = pytest.importorskip("tests.e2e.watched_coroutines")

MANY = 40

Line = dict[str, Any]


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("watched")
    return {"spans": folder / "spans.json", "reports": folder / "reports.json"}


@pytest.fixture(scope="module", autouse=True)
def started(url: str, files: dict[str, Path]) -> Iterator[None]:
    """A worker that both packages watch."""
    with running_workers(url, files["spans"].parent) as start:
        start(
            app="tests.e2e.watched_coroutines", pool="custom", concurrency=MANY,
            env={
                **CUSTOM,
                "PGJOBS_TEST_SPANS": str(files["spans"]),
                "PGJOBS_TEST_REPORTS": str(files["reports"]),
            },
        )  # fmt: skip
        yield


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    with producing(watched.app, url) as app:
        yield app


def read(file: Path) -> list[Line]:
    """All that was written there so far; a line may be on its way."""
    written = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return [json.loads(line) for line in written.splitlines()]


def ended(look: Callable[[], list[Line]], count: int) -> list[Line]:
    """What it finds, once it is so much."""
    return wait_for(lambda: len(found := look()) >= count and found, message=lambda: len(look()))


def test_the_spans_of_each_task_are_its_own(app: Celery, files: dict[str, Path]):
    results = [watched.call.delay(number) for number in range(MANY)]
    children = [each.get(timeout=60) for each in results]

    def look() -> list[Line]:
        return [
            span for span in read(files["spans"])
            if span["name"] == f"run/{watched.call.name}" or span["name"].split()[-1].isdecimal()
        ]  # fmt: skip

    spans = ended(look, 4 * MANY)
    runs = {
        span["attributes"]["messaging.message.id"]: span["context"]
        for span in spans
        if span["name"].startswith("run/")
    }
    assert len({run["trace_id"] for run in runs.values()}) == MANY
    for number, result in enumerate(results):
        run = runs[result.id]
        own = [span for span in spans if span["name"].endswith(f" {number}")]
        assert Counter(span["name"].split()[0] for span in own) == {
            "gathered": 1, "created": 1, "publishing": 1,
        }  # fmt: skip
        assert {span["parent_id"] for span in own} == {run["span_id"]}
        assert {span["context"]["trace_id"] for span in own} == {run["trace_id"]}
    published_by(spans, children, files)


def published_by(spans: list[Line], children: list[str], files: dict[str, Path]) -> None:
    """What each has published is a child of the span in which it did."""
    publishing = {
        int(span["name"].split()[1]): span["context"]["span_id"]
        for span in spans
        if span["name"].startswith("publishing ")
    }

    def look() -> list[Line]:
        return [
            span for span in read(files["spans"])
            if span["attributes"].get("messaging.message.id") in children
            and span["name"].startswith("apply_async/")
        ]  # fmt: skip

    parents = {
        span["attributes"]["messaging.message.id"]: span["parent_id"]
        for span in ended(look, len(children))
    }
    assert parents == {child: publishing[number] for number, child in enumerate(children)}


def test_an_error_is_reported_in_the_transaction_of_its_task(app: Celery, files: dict[str, Path]):
    failing = {watched.fail.delay(number).id: number for number in range(MANY)}
    beside = [watched.call.delay(number).id for number in range(MANY)]

    def look() -> list[Line]:
        return [
            line for line in read(files["reports"])
            if line.get("tags", {}).get("celery_task_id") in {*failing, *beside}
        ]  # fmt: skip

    lines = ended(look, 3 * MANY)
    transactions = {
        line["tags"]["celery_task_id"]: line["contexts"]["trace"]
        for line in lines
        if line["item"] == "transaction"
    }
    errors = [line for line in lines if line["item"] == "event"]
    assert transactions.keys() == {*failing, *beside}
    assert len({trace["trace_id"] for trace in transactions.values()}) == 2 * MANY
    assert Counter(line["tags"]["celery_task_id"] for line in errors) == dict.fromkeys(failing, 1)
    for line in errors:
        task_id = line["tags"]["celery_task_id"]
        assert line["exception"]["values"][-1]["value"] == str(failing[task_id])
        assert line["contexts"]["trace"]["trace_id"] == transactions[task_id]["trace_id"]
    statuses = {task_id: trace["status"] for task_id, trace in transactions.items()}
    assert {statuses[each] for each in failing} == {"internal_error"}
    assert {statuses[each] for each in beside} == {"ok"}
