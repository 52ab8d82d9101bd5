"""OpenTelemetry's own instrumentation of Celery and psycopg, in producer and worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain

from ..support.waiting import wait_for
from . import pgtasks
from .conftest import running_workers

# Not there without the packages.
traced = pytest.importorskip("tests.e2e.traced")

Span = dict[str, Any]


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module")
def spans_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spans") / "spans.json"


@pytest.fixture(scope="module")
def tracer(url: str, spans_file: Path) -> Iterator[Any]:
    """A worker and this process are instrumented; what either traces goes into the file."""
    with running_workers(url, spans_file.parent) as start:
        start(app="tests.e2e.traced", env={"PGJOBS_TEST_SPANS": str(spans_file)})
        provider = traced.instrument(spans_file)
        yield provider.get_tracer("tests")
        traced.uninstrument()


def trace_of(path: Path, count: int, root: Any) -> list[Span]:
    """The spans of a trace that Celery's instrumentation has made, once there are that many."""

    def look() -> list[Span] | None:
        spans = [json.loads(line) for line in path.read_text().splitlines()]
        trace_id = f"0x{root.get_span_context().trace_id:032x}"
        found = [
            span
            for span in spans
            if span["context"]["trace_id"] == trace_id and "celery.action" in span["attributes"]
        ]
        return sorted(found, key=lambda span: span["start_time"]) if len(found) >= count else None

    return wait_for(look)


def edges(spans: list[Span], root: Any) -> list[tuple[str, str]]:
    """Each span with the one that it is a child of."""
    names = {span["context"]["span_id"]: span["name"] for span in spans}
    names[f"0x{root.get_span_context().span_id:016x}"] = "root"
    return [(span["name"], names[span["parent_id"]]) for span in spans]


def test_a_task_is_traced_from_its_publication_to_its_end(
    pgtask_app: Celery, tracer: Any, spans_file: Path
) -> None:
    with tracer.start_as_current_span("root") as root:
        result = pgtasks.add.delay(1, 2)
    assert result.get(timeout=10) == 3
    published, ran = spans = trace_of(spans_file, 2, root)
    publish, run = (f"{action}/{pgtasks.add.name}" for action in ("apply_async", "run"))
    assert edges(spans, root) == [(publish, "root"), (run, publish)]
    assert (published["kind"], ran["kind"]) == ("SpanKind.PRODUCER", "SpanKind.CONSUMER")
    for span in spans:
        assert span["attributes"]["messaging.message.id"] == result.id
        assert span["attributes"]["messaging.destination"] == "celery"
    assert ran["attributes"]["celery.state"] == "SUCCESS"
    assert ran["status"]["status_code"] == "UNSET"


def test_the_steps_of_a_chain_are_one_trace(
    pgtask_app: Celery, tracer: Any, spans_file: Path
) -> None:
    add = pgtasks.add.name
    with tracer.start_as_current_span("root") as root:
        result = chain(pgtasks.add.s(1, 2), pgtasks.add.s(3))()
    assert result.get(timeout=10) == 6
    spans = trace_of(spans_file, 4, root)
    parents = {span["context"]["span_id"]: span["parent_id"] for span in spans}
    last = spans[-1]["context"]["span_id"]
    # The second was published by the first, while it ran.
    names = {span["context"]["span_id"]: span["name"] for span in spans}
    line = []
    while last in names:
        line.append(names[last])
        last = parents[last]
    assert line == 2 * [f"run/{add}", f"apply_async/{add}"]


def test_a_retry_belongs_to_the_trace_of_its_first_run(
    pgtask_app: Celery, tracer: Any, spans_file: Path
) -> None:
    name = pgtasks.retry.name
    with tracer.start_as_current_span("root") as root:
        result = pgtasks.retry.delay(1)
    assert result.get(timeout=10) == 2
    spans = trace_of(spans_file, 4, root)
    first = next(span for span in spans if span["name"] == f"run/{name}")
    assert first["attributes"]["celery.state"] == "RETRY"
    assert "no more" in first["attributes"]["celery.retry.reason"]
    assert [span["name"] for span in spans].count(f"run/{name}") == 2


def test_the_attempts_of_a_job_belong_to_one_trace_though_nothing_is_published_again(
    pgtask_app: Celery, tracer: Any, spans_file: Path
) -> None:
    with tracer.start_as_current_span("root") as root:
        result = pgtasks.fail.delay(2)
    assert result.get(timeout=10)["attempt"] == 3
    spans = trace_of(spans_file, 4, root)
    publish, run = (f"{action}/{pgtasks.fail.name}" for action in ("apply_async", "run"))
    assert edges(spans, root) == [(publish, "root"), *3 * [(run, publish)]]
    states = [span["attributes"]["celery.state"] for span in spans[1:]]
    assert states == ["RETRY", "RETRY", "SUCCESS"]
    assert ["celery.retry.reason" in span["attributes"] for span in spans[1:]] == [
        True, True, False,
    ]  # fmt: skip


def test_a_failure_is_in_its_span(pgtask_app: Celery, tracer: Any, spans_file: Path) -> None:
    with tracer.start_as_current_span("root") as root:
        pgtasks.fail.apply_async((9,), max_attempts=1).get(timeout=10, propagate=False)
    _, ran = trace_of(spans_file, 2, root)
    assert (ran["status"]["status_code"], ran["status"]["description"]) == ("ERROR", "time 1")
    (event,) = ran["events"]
    assert event["attributes"]["exception.type"] == "ValueError"
    assert ran["attributes"]["celery.state"] == "FAILURE"


def test_what_jobs_cost_the_database_is_not_traced(
    pgtask_app: Celery, tracer: Any, spans_file: Path
) -> None:
    """psycopg's instrumentation sees how we connect; a span for each claim would be noise."""

    def statements() -> int:
        spans = [json.loads(line) for line in spans_file.read_text().splitlines()]
        return sum("db.statement" in span["attributes"] for span in spans)

    pgtasks.add.delay(1, 2).get(timeout=10)
    before = statements()
    assert before > 0
    for _ in range(20):
        assert pgtasks.add.delay(1, 2).get(timeout=10) == 3
    assert statements() == before
