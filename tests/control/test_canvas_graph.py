"""The graph of a canvas, from rows and from what messages say: pure functions."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery, chain, chord, group

from pgjobs_celery.control.canvas_graph import Edge, Graph, Node, build_graph, cut, fold, in_order
from pgjobs_celery.control.canvas_steps import Parallel, Series, Step, after, first_id, read_plan
from pgjobs_celery.db.rows.canvas import CanvasRow
from pgjobs_celery.job.states import State

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=timezone.utc)
app = Celery("canvas", set_as_current=False)


@app.task(name="add", shared=False)
def add(*numbers: int) -> int:
    return sum(numbers)


def row(
    task_id: str, parent: str | None = None, state: str = "completed", **more: Any
) -> CanvasRow:
    given: dict[str, Any] = {
        "id": len(task_id), "task": "add", "queue": "q", "attempt": 1, "root_id": "a",
        "group_id": None, "group_index": None, "inserted_at": NOW,
    }  # fmt: skip
    return CanvasRow(task_id=task_id, parent_id=parent, state=State(state), **given | more)


def member(task_id: str, group_id: str, index: int, **more: Any) -> CanvasRow:
    return row(task_id, group_id=group_id, group_index=index, **{"root_id": task_id, **more})


def plain(signature: Any) -> Any:
    """As it stands in a message: JSON, the signatures within as dicts."""
    import json

    return json.loads(json.dumps(signature))


def arrows(graph: Graph) -> set[str]:
    marks = {"next": "->", "chord": "=>", "planned": "..", "replaced": "~>"}
    return {f"{edge.source} {marks[edge.kind]} {edge.target}" for edge in graph.edges}


def test_a_job_comes_after_the_one_that_published_it():
    graph = build_graph([row("a"), row("b", "a"), row("c", "b", "executing")], {})
    assert [node.key for node in graph.nodes] == ["a", "b", "c"]
    assert arrows(graph) == {"a -> b", "b -> c"}
    assert graph.nodes[2].state is State.EXECUTING


def test_a_parent_that_is_gone_has_a_node_all_the_same():
    graph = build_graph([row("b", "gone"), row("c", "gone")], {})
    assert arrows(graph) == {"gone -> b", "gone -> c"}
    assert graph.nodes[0] == Node("gone", "", "gone", kind="gone")


def test_a_group_that_no_task_published_begins_at_a_node_of_its_own():
    graph = build_graph([member("m1", "g", 0), member("m2", "g", 1)], {})
    assert arrows(graph) == {"group g -> m1", "group g -> m2"}
    assert graph.nodes[0].kind == "group"
    assert graph.nodes[0].size == 2


def test_the_rest_of_a_chain_is_not_yet_published():
    rest = [add.s(3).set(task_id="third"), add.s(2).set(task_id="second")]  # the next one last
    links = {"a": {"chain": plain(rest), "chord": None}}
    graph = build_graph([row("a", state="available")], links)
    assert arrows(graph) == {"a .. second", "second .. third"}
    assert [node.kind for node in graph.nodes] == ["job", "planned", "planned"]
    # What is published already is the job, and its own message says what comes after it.
    graph = build_graph([row("a", state="executing"), row("second", "a")], links)
    assert "second" not in {node.key for node in graph.nodes if node.kind == "planned"}
    assert "a -> second" in arrows(graph)


def test_a_job_that_has_succeeded_has_published_what_comes_after_it():
    links = {"a": {"chain": plain([add.s(2).set(task_id="pruned")])}}
    assert len(build_graph([row("a")], links).nodes) == 1


def test_the_body_of_a_chord_comes_after_all_of_its_header():
    rows = [member("m1", "g", 0), member("m2", "g", 1, state="executing")]
    links = {"m1": {"chord": plain(add.s().set(task_id="body"))}}
    graph = build_graph(rows, links)
    assert {"m1 => body", "m2 => body"} <= arrows(graph)
    assert graph.nodes[-1].kind == "planned"
    # Published: whoever did so is not the only one before it.
    graph = build_graph([*rows, row("body", "m2")], links)
    assert {"m1 => body", "m2 => body"} <= arrows(graph)
    assert "m2 -> body" not in arrows(graph)


def test_the_body_of_a_chord_is_planned_once_whatever_message_says_so():
    rows = [member(f"m{n}", "g", n, state="available") for n in range(3)]
    links = {each.task_id: {"chord": plain(add.s())} for each in rows}  # no id
    graph = build_graph(rows, links)
    assert [node.kind for node in graph.nodes].count("planned") == 1
    assert graph.nodes[-1].size == 1


def test_a_unique_key_that_passed_on_is_an_edge_of_its_own():
    graph = build_graph([row("a", superseded_by="other")], {})
    assert arrows(graph) == {"a ~> other"}


def test_celerys_own_canvases_are_read_as_they_are_in_messages():
    header = group(add.s(1), add.s(2))
    one = chain(add.s(0), chord(header, add.s(9)), add.s(10))
    plan = read_plan(plain(one))
    assert isinstance(plan, Series)
    assert any(isinstance(part, Parallel) for part in plan.parts)
    parallel = next(part for part in plan.parts if isinstance(part, Parallel))
    assert len(parallel.parts) == 2
    assert parallel.body is not None


@pytest.mark.parametrize(
    "odd", [None, 1, "x", [], {}, {"task": 3}, {"subtask_type": "group"}, {"subtask_type": "chain"}]
)
def test_what_is_no_signature_is_no_plan(odd):
    assert read_plan(odd) is None
    assert after({"chain": odd, "chord": odd, "callbacks": odd}) in ((None, None, ()),)


def test_signatures_within_each_other_are_followed_only_so_deep():
    odd: Any = {"task": "add", "options": {}}
    for _ in range(3000):
        odd = {"task": "add", "options": {"chord": odd}}
    plan = read_plan(odd)
    assert isinstance(plan, Step)


def test_the_first_id_of_a_chain_in_a_chord_is_that_of_its_first_task():
    body = chain(add.s(1).set(task_id="x"), add.s(2).set(task_id="y"))
    assert first_id(read_plan(plain(body))) == "x"


def test_jobs_that_are_alike_are_one_node_in_a_large_canvas():
    rows = [row("a")]
    rows += [row(f"m{n}", "a", "discarded" if n < 3 else "completed") for n in range(100)]
    rows += [row(f"c{n}", f"m{n}", task="child") for n in range(100)]
    graph = build_graph(rows, {}, "m5")
    assert len(graph.nodes) < 10
    folded = next(node for node in graph.nodes if node.size == 99)
    assert folded.states == {State.COMPLETED: 96, State.DISCARDED: 3}
    assert folded.state is None
    assert folded.task_id is None
    # The job that is looked at stands alone, and so does its child.
    assert "m5 -> c5" in arrows(graph)
    assert sum(node.size for node in graph.nodes) == 201


def test_a_small_canvas_is_not_folded():
    rows = [row("a"), *(row(f"m{n}", "a") for n in range(20))]
    assert len(build_graph(rows, {}).nodes) == 21


def test_a_graph_is_cut_and_keeps_the_job_that_is_looked_at():
    nodes = tuple(Node(str(n), f"task{n}") for n in range(100))
    graph = cut(Graph(nodes, (Edge("0", "99"),)), 10, "99")
    assert graph.is_cut
    assert [node.key for node in graph.nodes] == [*map(str, range(10)), "99"]
    assert graph.edges == (Edge("0", "99"),)


def test_a_circle_ends():
    nodes = {key: Node(key, "t") for key in "abc"}
    edges = [Edge("a", "b"), Edge("b", "c"), Edge("c", "a")]
    assert {node.key for node in in_order(nodes, edges)} == {"a", "b", "c"}
    graph = Graph(tuple(nodes.values()), tuple(edges))
    assert len(fold(graph, small=1).nodes) == 3
    assert build_graph([row("a", "b"), row("b", "a"), row("c", "c")], {}).nodes


def test_the_span_of_what_is_folded_is_open_until_all_have_ended():
    began = {"attempted_at": NOW}
    rows = [row(f"m{n}", None, finished_at=NOW + timedelta(seconds=n), **began) for n in range(40)]
    (node,) = build_graph(rows, {}).nodes
    assert node.ended == NOW + timedelta(seconds=39)
    rows[0] = rows[0]._replace(finished_at=None, state=State.EXECUTING)
    (node,) = build_graph(rows, {}).nodes
    assert node.began == NOW
    assert node.ended is None
