"""The graph of a canvas, from its jobs and their messages. Pure: reads no row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..db.rows.canvas import CanvasRow
from ..job.states import State
from .canvas_steps import Parallel, Plan, Series, Step, after, first_id

#: Up to how many jobs each has a node of its own; beyond, those that are alike are one, from
#: ``ALIKE`` on.
SMALL, ALIKE = 30, 4
#: How many nodes a graph has at most, and how many of them stand for what is not published yet.
MOST_NODES, MOST_PLANNED = 500, 200


@dataclass(frozen=True)
class Node:
    """A job of a canvas, or several that are alike."""

    #: Its name in the graph.
    key: str
    #: The task's name; of what is no job a word: ``group``.
    task: str
    #: None for several jobs, and for what has no row.
    task_id: str | None = None
    #: How many of its jobs are in each state; empty for what has no row.
    states: Mapping[State, int] = field(default_factory=dict)
    #: How many it stands for.
    size: int = 1
    #: ``job``, ``planned`` (in a message, and not published yet), ``gone`` (its row was deleted),
    #: ``other`` (a job of another canvas that took over a unique key), ``group`` (the place where
    #: a group begins that no job has published).
    kind: str = "job"
    #: When the first of them began, and when the last ended.
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def state(self) -> State | None:
        """The state, where all of its jobs are in one."""
        return next(iter(self.states)) if len(self.states) == 1 else None


@dataclass(frozen=True)
class Edge:
    """One comes after another."""

    source: str
    target: str
    #: ``next`` (published by it), ``chord`` (when all of its like have succeeded), ``planned`` (not
    #: published yet), ``replaced`` (took over its unique key).
    kind: str = "next"


@dataclass(frozen=True)
class Graph:
    """Nodes, each after those that it comes after, and the edges between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    #: There are more nodes than are shown.
    is_cut: bool = False


def build_graph(
    rows: Sequence[CanvasRow],
    links: Mapping[str, Mapping[str, Any]],
    focus: str | None = None,
    *,
    small: int = SMALL,
    most: int = MOST_NODES,
) -> Graph:
    """The graph of these jobs. ``links`` has what is to come after some of them, by id.

    The job ``focus`` always has a node of its own.
    """
    building = _Building(rows)
    building.add_parents()
    building.add_links(links)
    return cut(fold(building.graph(), focus, small), most, focus)


class _Building:
    def __init__(self, rows: Sequence[CanvasRow]) -> None:
        self.rows = {row.task_id: row for row in rows}
        self.nodes: dict[str, Node] = {row.task_id: _node(row) for row in rows}
        self.edges: dict[tuple[str, str], str] = {}
        self.planned = 0
        self.is_cut = False

    def graph(self) -> Graph:
        edges = [Edge(*pair, kind) for pair, kind in self.edges.items()]
        return Graph(tuple(in_order(self.nodes, edges)), tuple(edges), self.is_cut)

    def connect(self, sources: Iterable[str], targets: Iterable[str], kind: str) -> None:
        targets = list(targets)
        for source in sources:
            for target in targets:
                if source != target:
                    self.edges.setdefault((source, target), kind)

    def add_parents(self) -> None:
        """The parent of each job; a group that no job has published begins at a node of its own."""
        members: dict[str, list[str]] = defaultdict(list)
        for row in self.rows.values():
            parent = row.parent_id
            if parent and parent != row.task_id:
                if parent not in self.nodes:
                    self.nodes[parent] = Node(parent, "", parent, kind="gone")
                self.connect([parent], [row.task_id], "next")
            elif row.group_id and row.group_index is not None:
                members[row.group_id].append(row.task_id)
            if (other := row.superseded_by) and other != row.task_id:
                # It is of another canvas.
                self.nodes.setdefault(other, Node(other, row.task, other, kind="other"))
                self.connect([row.task_id], [other], "replaced")
        for group_id, ids in members.items():
            if len(ids) > 1:
                key = f"group {group_id}"
                self.nodes[key] = Node(key, "group", kind="group", size=len(ids))
                self.connect([key], ids, "next")

    def add_links(self, links: Mapping[str, Mapping[str, Any]]) -> None:
        """The jobs that messages announce: where that is published already, how it belongs."""
        members: dict[str, list[str]] = defaultdict(list)
        for row in self.rows.values():
            if row.group_id and row.group_index is not None:
                members[row.group_id].append(row.task_id)
        headers: set[str] = set()
        for task_id, message in links.items():
            if task_id not in self.rows:
                continue
            row = self.rows[task_id]
            chain, chord, callbacks = after(message)
            header = row.group_id if row.group_id in members else task_id
            # Each task of a header has the same body.
            if chord is not None and header not in headers:
                headers.add(str(header))
                self.add_body(members.get(str(header), [task_id]), chord)
            # A job that has succeeded has published its chain's next, which may be pruned by now.
            if row.state is not State.COMPLETED:
                for plan in (chain, *callbacks):
                    if plan is not None:
                        self.add_plan([task_id], plan, "planned")

    def add_body(self, header: Sequence[str], body: Plan) -> None:
        """The body of a chord comes after all of its header, whoever has published it."""
        if (first := first_id(body)) is not None and first in self.rows:
            for pair in [pair for pair in self.edges if pair[1] == first]:
                if self.edges[pair] == "next":
                    del self.edges[pair]
        self.add_plan(header, body, "chord")

    def add_plan(self, sources: Sequence[str], plan: Plan, kind: str) -> list[str]:
        """Nodes for a plan after ``sources``; the keys of those that it ends with."""
        if isinstance(plan, Series):
            last = list(sources)
            for part in plan.parts:
                last, kind = self.add_plan(last, part, kind), "planned"
            return last
        if isinstance(plan, Parallel):
            ends = [key for part in plan.parts for key in self.add_plan(sources, part, kind)]
            return ends if plan.body is None else self.add_plan(ends, plan.body, "chord")
        return self.add_step(sources, plan, kind)

    def add_step(self, sources: Sequence[str], step: Step, kind: str) -> list[str]:
        key = step.task_id or f"planned {step.task} after {' '.join(sources[:1])}"
        if key not in self.nodes:
            if self.planned >= MOST_PLANNED:
                self.is_cut = True
                return list(sources)
            self.planned += 1
            self.nodes[key] = Node(key, step.task, step.task_id, kind="planned")
        elif step.task_id is None:
            self.nodes[key] = replace(self.nodes[key], size=self.nodes[key].size + 1)
        is_known = key in self.rows
        self.connect(sources, [key], "next" if is_known and kind == "planned" else kind)
        if is_known:  # its own message says what comes after it
            return [key]
        for link in step.links:
            self.add_plan([key], link, "planned")
        if step.chord is not None:
            self.add_plan([key], step.chord, "chord")
        return [key]


def _node(row: CanvasRow) -> Node:
    return Node(
        row.task_id, row.task, row.task_id, {row.state: 1}, 1, "job", row.attempted_at,
        row.finished_at,
    )  # fmt: skip


def in_order(nodes: Mapping[str, Node], edges: Iterable[Edge]) -> list[Node]:
    """Each node after all that it comes after; where that goes in a circle, as they stand."""
    waits = Counter(edge.target for edge in edges)
    targets: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        targets[edge.source].append(edge.target)
    ready = [key for key in nodes if not waits[key]]
    found: dict[str, Node] = {}
    while len(found) < len(nodes):
        if not ready:
            ready = [next(key for key in nodes if key not in found)]
        following = []
        for key in ready:
            if key in found:
                continue
            found[key] = nodes[key]
            for target in targets[key]:
                waits[target] -= 1
                if not waits[target]:
                    following.append(target)
        ready = following
    return list(found.values())


def fold(graph: Graph, focus: str | None = None, small: int = SMALL) -> Graph:
    """The same graph with jobs that are alike as one node: same task, after the same nodes."""
    if len(graph.nodes) <= small:
        return graph
    before: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        before[edge.target].append(edge.source)
    # Node by node, each after its sources: what is alike after jobs that are alike is alike, too.
    name: dict[str, str] = {}
    alike: dict[tuple[Any, ...], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        sources = frozenset(name.get(source, source) for source in before[node.key])
        own = node.key if node.key == focus or node.kind == "group" else ""
        kind = (node.task, node.kind, own, sources)
        alike[kind].append(node)
        name[node.key] = f"alike {alike[kind][0].key}"
    folded: dict[str, Node] = {}
    for nodes in alike.values():
        if len(nodes) < ALIKE:
            folded |= {node.key: node for node in nodes}
            name |= {node.key: node.key for node in nodes}
        else:
            key = name[nodes[0].key]
            folded[key] = _folded(key, nodes)
    order = dict.fromkeys(name[node.key] for node in graph.nodes)
    edges: dict[tuple[str, str], Edge] = {}
    for edge in graph.edges:
        pair = name[edge.source], name[edge.target]
        if pair[0] != pair[1]:
            edges.setdefault(pair, Edge(*pair, edge.kind))
    nodes_now = {key: folded[key] for key in order}
    return Graph(tuple(in_order(nodes_now, edges.values())), tuple(edges.values()), graph.is_cut)


def _folded(key: str, nodes: Sequence[Node]) -> Node:
    states: Counter[State] = Counter()
    for node in nodes:
        states.update(node.states)
    first = nodes[0]
    return Node(
        key,
        first.task,
        None,
        {state: states[state] for state in State if states[state]},
        sum(node.size for node in nodes),
        first.kind,
        min((node.began for node in nodes if node.began), default=None),
        # The last end, once all have ended.
        max((node.ended for node in nodes if node.ended), default=None)
        if all(node.ended for node in nodes)
        else None,
    )


def cut(graph: Graph, most: int, focus: str | None = None) -> Graph:
    """The first nodes of a graph, and the one that is looked at."""
    if len(graph.nodes) <= most:
        return graph
    kept = {node.key for node in graph.nodes[:most]} | {focus}
    nodes = tuple(node for node in graph.nodes if node.key in kept)
    edges = tuple(edge for edge in graph.edges if edge.source in kept and edge.target in kept)
    return Graph(nodes, edges, is_cut=True)
