"""Where the nodes of a canvas stand: pure functions."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from pgjobs_celery.control.canvas_graph import Edge, Graph, Node
from pgjobs_celery.web.graph import BELOW, HEIGHT, WIDTH, draw, outline


def graph(keys: str, *edges: str) -> Graph:
    nodes = tuple(Node(key, f"task {key}", key) for key in keys)
    return Graph(nodes, tuple(Edge(*edge) for edge in edges))


def test_each_node_stands_to_the_right_of_all_before_it():
    drawing = draw(graph("abcde", "ab", "ac", "bd", "cd", "ad", "de"))
    x = {box.node.key: box.x for box in drawing.boxes}
    assert x["a"] < x["b"] == x["c"] < x["d"] < x["e"]
    assert x["e"] + WIDTH <= drawing.width


def test_no_two_nodes_overlap():
    wide = draw(graph("abcdefghij", "ab", "ac", "ad", "be", "bf", "cg", "ch", "di", "dj"))
    places = [(box.x, box.y) for box in wide.boxes]
    for index, (x, y) in enumerate(places):
        for other_x, other_y in places[index + 1 :]:
            assert x != other_x or abs(y - other_y) >= HEIGHT + BELOW
    assert all(y >= 0 and y + HEIGHT <= wide.height for _, y in places)


def test_lines_that_need_not_cross_do_not():
    drawing = draw(graph("abcd", "ad", "bc"))
    y = {box.node.key: box.y for box in drawing.boxes}
    assert (y["a"] < y["b"]) == (y["d"] < y["c"])


def test_circles_and_nothing_are_drawn():
    assert len(draw(graph("ab", "ab", "ba")).boxes) == 2
    assert draw(graph("")).boxes == ()
    assert len(draw(graph("a")).boxes) == 1


def test_the_list_has_every_node_once_and_says_where_it_stands_again():
    def flat(branches, depth=0):
        for each in branches:
            yield depth, each.node.key, each.is_repeated
            yield from flat(each.branches, depth + 1)

    assert list(flat(outline(graph("abcd", "ab", "ac", "bd", "cd")))) == [
        (0, "a", False), (1, "b", False), (2, "d", False), (1, "c", False), (2, "d", True),
    ]  # fmt: skip
    assert {key for _, key, _ in flat(outline(graph("ab", "ab", "ba")))} == {"a", "b"}


def test_a_long_chain_is_a_list_that_does_not_nest_without_end():
    nodes = tuple(Node(str(n), "t") for n in range(500))
    edges = tuple(Edge(str(n), str(n + 1)) for n in range(499))
    found = outline(Graph(nodes, edges))
    assert len(found) > 1
    assert len(draw(Graph(nodes, edges)).boxes) == 500
