"""Tasks: how often each runs and fails, how long its jobs wait and run."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from typing import TYPE_CHECKING, Any

from ...control.history import OTHER, Measured
from ...db.rights import quoted
from ...db.rows.views import DEPTH
from ...errors import InvalidOption
from ..panels import ended_spark, panels
from ..routes import Page
from ..runs import draw_runs
from ..windows import Past, page_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

#: How many tasks a page shows.
PAGE = 60

_Row = tuple[str, Measured]
#: How the list may be sorted.
SORTS: dict[str, Callable[[_Row], Any]] = {
    "busiest": lambda row: (-row[1].ended, row[0]),
    "name": lambda row: row[0],
    "failing": lambda row: (-(row[1].failure_share or 0.0), -row[1].failed, row[0]),
    "waiting": lambda row: (-(row[1].wait(0.95) or 0.0), row[0]),
    "slowest": lambda row: (-(row[1].run(0.95) or 0.0), row[0]),
    "costly": lambda row: (-row[1].period.ran, row[0]),
}


def tasks(visit: Visit) -> Response:
    """All tasks of which anything ended within the range."""
    database, past = visit.source.database, Past(visit)
    words, sort = visit.query.get("q", ""), visit.query.get("sort", "busiest")
    every = past.table("task")
    found = sorted(
        ((name, each) for name, each in every.items() if words.casefold() in name.casefold()),
        key=SORTS.get(sort, SORTS["busiest"]),
    )
    shown, page, pages = page_of(visit, found, PAGE)
    traces = past.lines("task")
    return visit.render(
        "tasks.html",
        window=past.window,
        words=words,
        sort=sort if sort in SORTS else "busiest",
        sorts=list(SORTS),
        tasks=shown,
        count=len(found),
        page=page,
        pages=pages,
        is_empty=not every,
        ran=sum(each.period.ran for each in every.values()),
        schema=quoted(database.schema),
        sparks={name: ended_spark(traces.get(name)) for name, _ in shown},
        other=OTHER,
    )


def task(visit: Visit) -> Response:
    """One task: charts, and its last runs."""
    name = visit.query.get("name", "")
    if not name:
        raise InvalidOption("the address names no task")
    database, past = visit.source.database, Past(visit)
    found = past.series("task", name)
    runs, is_cut = database.views.list_runs(name)
    failing = [each for each in past.failing() if each.task == name[:200]]
    return visit.render(
        "task.html",
        window=past.window,
        name=name,
        found=found,
        charts=panels(found, shares=(0.5, 0.95, 0.99)),
        failing=failing[0] if failing else None,
        runs=draw_runs(runs),
        runs_cut=is_cut,
        depth=DEPTH,
        shell=quote(name),
        spelled=repr(name),
        schema=quoted(database.schema),
    )


ROUTES = (Page("/tasks", tasks, "tasks", "Tasks"), Page("/task", task, "task"))
