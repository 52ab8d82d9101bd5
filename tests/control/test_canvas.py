"""The canvas that a job belongs to, as Celery publishes it and as its rows tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, chain, chord, group

from pgjobs_celery.control import canvas as canvases
from pgjobs_celery.control.canvas import Canvas, find_canvas
from pgjobs_celery.control.jobs import jobs
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.states import State
from pgjobs_celery.testing import drain_queue, testing
from tests.support.rows import put, states


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()

    @app.task(name="add", shared=False)
    def add(*numbers: Any) -> int:
        return sum(n if isinstance(n, int) else sum(n) for n in numbers)

    @app.task(name="fail", shared=False)
    def fail(*_: Any) -> None:
        raise ValueError("no")

    @app.task(name="spread", shared=False, bind=True)
    def spread(self: Any, many: int) -> None:
        group(add.si(n) for n in range(many)).apply_async()

    return app


def run(app: Celery, rounds: bool = True) -> None:
    with testing(app, "real"):
        drain_queue(with_recursion=rounds, app=app)


def tasks_of(canvas: Canvas | None) -> dict[str, list[str]]:
    assert canvas is not None
    found: dict[str, list[str]] = {}
    for node in canvas.graph.nodes:
        found.setdefault(node.kind, []).append(node.task)
    return found


def edges_of(canvas: Canvas | None) -> list[str]:
    assert canvas is not None
    return sorted(edge.kind for edge in canvas.graph.edges)


def test_a_job_that_stands_alone_has_none(database, app):
    id = app.tasks["add"].delay(1, 2).id
    assert find_canvas(database, id) is None
    assert find_canvas(database, "nobody") is None
    assert find_canvas(database, "\x00") is None


def test_a_chain_shows_what_is_not_published_yet_and_then_what_is(database, app):
    add = app.tasks["add"]
    result = chain(add.s(1, 2), add.s(3), add.s(4)).apply_async()
    first = result.parent.parent.id

    canvas = find_canvas(database, first)
    assert tasks_of(canvas) == {"job": ["add"], "planned": ["add", "add"]}
    assert canvas is not None
    assert [node.task_id for node in canvas.graph.nodes] == [first, result.parent.id, result.id]

    run(app)
    for id in (first, result.parent.id, result.id):
        canvas = find_canvas(database, id)
        assert canvas is not None
        assert [node.task_id for node in canvas.graph.nodes] == [first, result.parent.id, result.id]
        assert edges_of(canvas) == ["next", "next"]
        assert canvas.states == {State.COMPLETED: 3}


def test_a_chain_that_broke_shows_what_will_not_run(database, app):
    add, fail = app.tasks["add"], app.tasks["fail"]
    result = chain(fail.s(), add.s(1)).apply_async()
    run(app)
    canvas = find_canvas(database, result.parent.id)
    assert tasks_of(canvas) == {"job": ["fail"], "planned": ["add"]}


def test_a_group_that_no_task_published_is_found_from_each_of_its_jobs(database, app):
    add = app.tasks["add"]
    result = group(add.s(n, n) for n in range(3)).apply_async()
    for each in result.results:
        assert tasks_of(find_canvas(database, each.id)) == {"group": ["group"], "job": ["add"] * 3}


def test_a_chord_is_found_from_its_header_and_from_its_body(database, app):
    add = app.tasks["add"]
    result = chord([add.s(n, n) for n in range(3)], add.s()).apply_async()
    header = result.parent.results[0].id
    canvas = find_canvas(database, header)
    assert tasks_of(canvas)["planned"] == ["add"]
    assert edges_of(canvas).count("chord") == 3

    run(app)
    for id in (header, result.id):
        canvas = find_canvas(database, id)
        assert canvas is not None
        assert edges_of(canvas).count("chord") == 3
        assert {edge.target for edge in canvas.graph.edges if edge.kind == "chord"} == {result.id}
        assert canvas.size == 4


def test_a_task_that_publishes_a_group_is_its_root(database, app):
    id = app.tasks["spread"].delay(100).id
    run(app)
    canvas = find_canvas(database, id)
    assert canvas is not None
    assert canvas.states == {State.COMPLETED: 101}
    assert [node.size for node in canvas.graph.nodes] == [1, 100]
    assert canvas.roots == {id}


def test_all_of_a_canvas_is_cancelled_and_what_failed_is_retried(database, app, connection):
    add, fail = app.tasks["add"], app.tasks["fail"]
    other = add.delay(1).id
    one = chord([add.s(1), fail.s()], add.s()).apply_async().parent.results
    canvas = find_canvas(database, one[0].id)
    assert canvas is not None
    changed = canvas.select(jobs(database)).cancel("wrong")
    assert sorted(changed) == sorted(each.id for each in one)
    assert states(connection)[other] == "available"

    chosen = canvas.select(jobs(database))
    assert len(chosen.filter(state="cancelled").retry()) == 2
    run(app, rounds=False)
    canvas = find_canvas(database, one[0].id)
    assert canvas is not None
    assert canvas.states[State.DISCARDED] >= 1
    failed = canvas.select(jobs(database)).filter(state=State.DISCARDED)
    assert one[1].id in failed.retry()


def test_what_was_pruned_leaves_a_gap_and_no_error(database, app):
    add = app.tasks["add"]
    result = chain(add.s(1, 2), add.s(3), add.s(4)).apply_async()
    run(app)
    jobs(database).filter(id=result.parent.parent.id).delete()
    canvas = find_canvas(database, result.id)
    assert canvas is not None
    assert [node.kind for node in canvas.graph.nodes] == ["gone", "job", "job"]


def test_no_more_than_so_many_jobs_are_looked_at(database, monkeypatch):
    monkeypatch.setattr(canvases, "MOST_JOBS", 10)
    put(database, "a", root_id="a")
    put(database, *(f"c{n}" for n in range(30)), root_id="a", parent_id="a")
    canvas = find_canvas(database, "c29")
    assert canvas is None or canvas.is_cut
    canvas = find_canvas(database, "a")
    assert canvas is not None
    assert canvas.is_cut
    assert canvas.size == 10


def test_rows_of_any_kind_make_a_graph(database: Database):
    put(database, "x", root_id="x", parent_id="x", body=b"\x00\xff", group_id="g", group_index=0)
    put(database, "y", root_id="z", parent_id="z", body=b'[[], {}, {"chain": 3, "chord": [1]}]')
    put(database, "z", root_id="y", parent_id="y", body=b'[[], {}, "odd"]')
    assert find_canvas(database, "x") is None
    canvas = find_canvas(database, "y")
    assert canvas is not None
    assert {node.key for node in canvas.graph.nodes} == {"y", "z"}
