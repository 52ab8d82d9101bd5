"""The canvas that a job belongs to: chain, group, chord, and what its tasks have published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..db.database import Database
from ..db.rows.canvas import CanvasRow
from ..job.states import State
from .canvas_graph import Graph, build_graph
from .jobs import Selection

#: How many jobs of a canvas are looked at: below its roots, and in its groups.
MOST_JOBS = 5_000
#: How often what was found is followed further: to a group, from there to another root.
ROUNDS = 6
#: The messages of how many jobs are read, for what comes next.
MOST_MESSAGES = 50


@dataclass(frozen=True)
class Canvas:
    """The jobs that belong together, as a graph."""

    graph: Graph
    #: How many of them there are in each state.
    states: Mapping[State, int]
    #: The ids that they have as their root, by which :meth:`select` finds them.
    roots: frozenset[str]
    #: Only so many jobs were looked at, and there are more.
    is_cut: bool = False

    @property
    def size(self) -> int:
        """How many jobs were found."""
        return sum(self.states.values())

    def select(self, jobs: Selection) -> Selection:
        """All jobs of the canvas, to be acted on; those too that were not looked at."""
        return jobs.filter(root=self.roots)


def find_canvas(database: Database, task_id: str) -> Canvas | None:
    """The canvas of a job; None if it has no row, or stands alone.

    What it belongs to is found by its root, its parent and its group, and what is not published yet
    in the messages of the jobs that have not succeeded. Rows that are pruned are missing.
    """
    rows, is_cut = _gather(database, task_id)
    if task_id not in rows:
        return None
    found = sorted(rows.values(), key=lambda row: row.id)
    links = database.canvas.list_links(_of_interest(found, task_id))
    graph = build_graph(found, links, task_id)
    if len(graph.nodes) < 2:
        return None
    states = Counter(row.state for row in found)
    roots = frozenset(row.root_id or row.task_id for row in found)
    return Canvas(graph, {state: states[state] for state in State if states[state]}, roots, is_cut)


def _gather(database: Database, task_id: str) -> tuple[dict[str, CanvasRow], bool]:
    """The rows, by id, from one to the next; and whether there are more."""
    rows: dict[str, CanvasRow] = {}
    asked: set[tuple[str, str]] = set()
    wanted = {("id", task_id)}
    for _ in range(ROUNDS):
        ids, roots, groups = (
            [key for kind, key in wanted if kind == which] for which in ("id", "root", "group")
        )
        found = database.canvas.find_canvas(ids, roots, groups, MOST_JOBS + 1)
        asked |= wanted
        rows |= {row.task_id: row for row in found[: MOST_JOBS - len(rows)]}
        if len(found) > MOST_JOBS or len(rows) >= MOST_JOBS:
            return rows, True
        wanted = {key for row in rows.values() for key in _leads(row)} - asked
        if not wanted:
            return rows, False
    return rows, True


def _leads(row: CanvasRow) -> Iterator[tuple[str, str]]:
    """Where others of its canvas may be found: as an id, a root or a group."""
    for kind, key in (
        ("root", row.root_id),
        ("id", row.root_id),
        ("id", row.parent_id),
        ("group", row.group_id),
    ):
        if key:
            yield kind, key


def _of_interest(rows: list[CanvasRow], task_id: str) -> list[str]:
    """The jobs whose messages tell what comes: one of each group, and those that have not ended."""
    groups: set[str] = set()
    chosen, others = [task_id], []
    for row in rows:
        if row.group_id and row.group_id not in groups:
            groups.add(row.group_id)
            chosen.append(row.task_id)
        elif row.state is not State.COMPLETED:
            others.append(row.task_id)
    return [*dict.fromkeys([*chosen, *others])][:MOST_MESSAGES]
