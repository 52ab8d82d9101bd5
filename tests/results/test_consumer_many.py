"""Waiting for many results at once: sets, groups, iterators."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TimeoutError
from celery.result import AsyncResult, ResultSet

from ..support.getters import NEVER, new

MakeApp = Callable[..., Celery]


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    return make_app(broker_transport_options=NEVER)


def finish_later(app: Celery, results: list[AsyncResult]) -> threading.Thread:
    def finish() -> None:
        for number, result in enumerate(results):
            app.backend.mark_as_done(result.id, number)

    thread = threading.Thread(target=finish)
    thread.start()
    return thread


@pytest.mark.parametrize("how", ["join", "join_native", "get"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_thousand_results_come_in_order(app: Celery, how: str, when: str):
    results = ResultSet([new(app) for _ in range(1000)], app=app)
    thread = finish_later(app, results.results)
    if when == "before":
        thread.join()
    assert getattr(results, how)(timeout=30) == list(range(1000))
    thread.join()
    assert results.successful()
    assert app.backend.result_consumer._waiting == set()


def test_results_are_handed_over_as_they_come(app: Celery):
    results = ResultSet([new(app) for _ in range(50)], app=app)
    seen: list[tuple[str, Any]] = []
    thread = finish_later(app, results.results)
    assert results.get(timeout=20, callback=lambda *args: seen.append(args)) is None
    thread.join()
    assert dict(seen) == {result.id: number for number, result in enumerate(results)}
    messages: list[str] = []
    results = ResultSet([new(app) for _ in range(5)], app=app)
    thread = finish_later(app, results.results)
    results.get(timeout=20, on_message=lambda meta: messages.append(meta["task_id"]))
    thread.join()
    assert set(messages) == {result.id for result in results}


def test_iterating_yields_each_result_once(app: Celery):
    results = ResultSet([new(app) for _ in range(20)], app=app)
    thread = finish_later(app, results.results)
    metas = dict(results.iter_native(timeout=20))
    thread.join()
    assert {key: meta["result"] for key, meta in metas.items()} == {
        result.id: number for number, result in enumerate(results)
    }


def test_a_failure_among_results_is_raised_or_stands_in_its_place(app: Celery):
    results = ResultSet([new(app) for _ in range(3)], app=app)
    app.backend.mark_as_done(results[0].id, 0)
    app.backend.mark_as_failure(results[1].id, KeyError("no"))
    app.backend.mark_as_done(results[2].id, 2)
    with pytest.raises(KeyError):
        results.get(timeout=20)
    first, second, third = results.get(timeout=20, propagate=False)
    assert (first, type(second), third) == (0, KeyError, 2)


def test_results_that_do_not_all_come_time_out(app: Celery):
    results = ResultSet([new(app) for _ in range(3)], app=app)
    app.backend.mark_as_done(results[0].id, 0)
    for how in (results.get, results.join):
        with pytest.raises(TimeoutError):
            how(timeout=0.1)
    assert results.completed_count() == 1


def test_an_empty_set_needs_no_waiting(app: Celery):
    assert ResultSet([], app=app).get(timeout=1) == []
