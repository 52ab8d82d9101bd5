"""Where the nodes of a canvas stand in its drawing, and the same as a nested list. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..control.canvas_graph import Edge, Graph, Node

#: Sizes in pixels: of a node, and between two of them.
WIDTH, HEIGHT, BESIDE, BELOW, MARGIN = 168, 40, 44, 12, 6
#: How often layers are put in order, there and back.
SWEEPS = 4


@dataclass(frozen=True)
class Box:
    """A node, and its upper left corner."""

    node: Node
    x: int
    y: int


@dataclass(frozen=True)
class Line:
    """An edge, as the path of SVG from one box to the other."""

    edge: Edge
    path: str


@dataclass(frozen=True)
class Drawing:
    """All boxes and lines, and the size of the whole."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Branch:
    """A node in a nested list, with what comes after it."""

    node: Node
    branches: tuple[Branch, ...] = ()
    #: It stands elsewhere in the list with what comes after it.
    is_repeated: bool = False


def draw(graph: Graph) -> Drawing:
    """From the left to the right: each node to the right of all that it comes after."""
    layers = _layers(graph)
    order = _order(layers, graph.edges)
    tallest = max((len(layer) for layer in order), default=0)
    boxes: dict[str, Box] = {}
    nodes = {node.key: node for node in graph.nodes}
    for column, layer in enumerate(order):
        # Each layer stands in the middle.
        top = MARGIN + (tallest - len(layer)) * (HEIGHT + BELOW) // 2
        for place, key in enumerate(layer):
            x = MARGIN + column * (WIDTH + BESIDE)
            boxes[key] = Box(nodes[key], x, top + place * (HEIGHT + BELOW))
    lines = tuple(
        Line(edge, _path(boxes[edge.source], boxes[edge.target]))
        for edge in graph.edges
        if edge.source in boxes and edge.target in boxes
    )
    return Drawing(
        tuple(boxes.values()),
        lines,
        2 * MARGIN + len(order) * (WIDTH + BESIDE) - BESIDE if order else 0,
        2 * MARGIN + tallest * (HEIGHT + BELOW) - BELOW if order else 0,
    )


def _layers(graph: Graph) -> list[list[str]]:
    """The nodes of each layer; an edge that goes back does not count."""
    place = {node.key: index for index, node in enumerate(graph.nodes)}
    before: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        if place.get(edge.source, len(place)) < place.get(edge.target, -1):
            before[edge.target].append(edge.source)
    layer: dict[str, int] = {}
    for node in graph.nodes:
        layer[node.key] = 1 + max((layer[source] for source in before[node.key]), default=-1)
    found: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for key, number in layer.items():
        found[number].append(key)
    return found


def _order(layers: Sequence[list[str]], edges: Sequence[Edge]) -> list[list[str]]:
    """The layers with few lines that cross: each node near the middle of its neighbours.

    The barycentre heuristic of Sugiyama, Tagawa and Toda (1981).
    """
    sources: dict[str, list[str]] = defaultdict(list)
    targets: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        sources[edge.target].append(edge.source)
        targets[edge.source].append(edge.target)
    order = [list(layer) for layer in layers]
    place = {key: index for layer in order for index, key in enumerate(layer)}
    for sweep in range(SWEEPS):
        neighbours = targets if sweep % 2 else sources
        for layer in reversed(order) if sweep % 2 else order:
            layer.sort(key=lambda key: _middle(neighbours[key], place, place[key]))
            place |= {key: index for index, key in enumerate(layer)}
    return order


def _middle(neighbours: Sequence[str], place: Mapping[str, int], own: int) -> float:
    found = [place[key] for key in neighbours if key in place]
    return sum(found) / len(found) if found else float(own)


def _path(source: Box, target: Box) -> str:
    begin = source.x + WIDTH, source.y + HEIGHT // 2
    end = target.x, target.y + HEIGHT // 2
    bend = max(BESIDE, end[0] - begin[0]) // 2
    return (
        f"M{begin[0]} {begin[1]}C{begin[0] + bend} {begin[1]} {end[0] - bend} {end[1]}"
        f" {end[0]} {end[1]}"
    )


def outline(graph: Graph, deepest: int = 60) -> list[Branch]:
    """The nodes as a nested list: each below the first that it comes after."""
    nodes = {node.key: node for node in graph.nodes}
    targets: dict[str, list[str]] = defaultdict(list)
    has_source = set()
    for edge in graph.edges:
        if edge.source in nodes and edge.target in nodes:
            targets[edge.source].append(edge.target)
            has_source.add(edge.target)
    seen: set[str] = set()

    def branch(key: str, depth: int) -> Branch:
        if key in seen or depth > deepest:
            return Branch(nodes[key], is_repeated=True)
        seen.add(key)
        return Branch(nodes[key], tuple(branch(target, depth + 1) for target in targets[key]))

    roots = [branch(node.key, 0) for node in graph.nodes if node.key not in has_source]
    # A circle begins nowhere.
    return roots + [branch(node.key, 0) for node in graph.nodes if node.key not in seen]
