"""The page of one job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ...control.attempts import attempts
from ...control.audit import ACTIONS
from ...control.canvas import Canvas, find_canvas
from ...control.explain import explain
from ...control.explanation import COMMAND, span
from ...control.jobs import ACTS_ON
from ...control.search import write_word
from ...control.timeline import Try, segments, timeline
from ...db.rows.views import DEPTH
from ...errors import InvalidOption
from ...job.states import State
from ..graph import draw, outline
from ..job_view import JSON, JobView, as_job, find_task, part_in_full, view_job, view_step
from ..routes import Page
from ..runs import draw_runs
from ..values import Unread, visible
from . import job_acts
from .job_acts import as_argument

if TYPE_CHECKING:
    from ..visit import Visit

#: The values that can be downloaded.
PARTS = ("args", "kwargs", "result")


def job(visit: Visit) -> Response:
    """All that is known of a job, and what can be done to it."""
    task_id, database = visit.query.get("id", ""), visit.source.database
    row = database.views.show_job(task_id)
    if row is None:
        return _missing(visit, task_id)
    view = view_job(row, visit.site.redaction, visit.source.app)
    # First: what is secret in one is hidden in every text.
    steps = [(step, view_step(view, step)) for step in database.steps.list_steps(task_id)]
    canvas = find_canvas(database, task_id)
    runs, is_cut = database.views.list_runs(row.task)
    explained = explain(database, task_id)
    return visit.render(
        "job.html",
        job=row,
        view=view,
        explained=explained,
        explained_text=view.words(explained.text) if explained else "",
        timeline=segments(timeline(row, tries_of(view), row.now)),
        tries=failures_of(view),
        canvas=canvas,
        drawing=draw(canvas.graph) if canvas else None,
        outline=outline(canvas.graph) if canvas else (),
        failed=canvas.states.get(State.DISCARDED, 0) if canvas else 0,
        unfinished=_unfinished(canvas),
        actions=database.audit.list_seen(task_id),
        meanings=ACTIONS,
        alike=database.views.list_alike(task_id),
        runs=draw_runs(runs),
        runs_cut=is_cut,
        depth=DEPTH,
        steps=steps,
        wait=database.steps.find_wait(task_id),
        may_be={name: row.state in states for name, states in ACTS_ON.items()},
        command=lambda name: f"{COMMAND} {name} {as_argument(visible(task_id))}",
        is_known=visit.source.app is None or find_task(visit.source.app, row.task) is not None,
        error_of=_outcome_text(view),
        list_of=lambda **words: list_of(visit, **words),
    )


def list_of(visit: Visit, **words: str) -> str:
    """The address of the list of jobs that these filters find; empty where none can."""
    try:
        return visit.url("jobs", q=" ".join(write_word(*word) for word in words.items()))
    except InvalidOption:
        return ""


def tries_of(view: JobView) -> list[Try]:
    """The attempts as the timeline knows them."""
    found = attempts(as_job(view.row))
    return [
        Try(
            each.number or 0,
            each.began,
            each.ended,
            each.worker,
            each.type or None,
            is_final=view.row.state.is_final and each is found[-1],
        )
        for each in found
    ]


def failures_of(view: JobView) -> list[dict[str, Any]]:
    """The attempts that have failed as they are shown, the last one first."""
    return [
        {
            "number": each.number,
            "at": each.ended,
            "worker": each.worker,
            "seconds": each.seconds,
            "outcome": each.outcome,
            "type": view.kind(each.type),
            "message": view.text(each.message),
            "frame": visible(each.frame or ""),
            "fingerprint": each.fingerprint,
            "traceback": view.traceback(each.traceback) if each.traceback else "",
        }
        for each in reversed(attempts(as_job(view.row)))
        if each.type or each.message or each.traceback
    ]


def _outcome_text(view: JobView) -> str:
    """The last error in a line; empty for a job without one."""
    if view.row.state not in (State.DISCARDED, State.RETRYABLE) or not view.row.errors:
        return ""
    last = view.row.errors[-1]
    words = [view.kind(last.get("type")), view.text(last.get("message"))]
    return ": ".join(filter(None, words))[:300]


def _unfinished(canvas: Canvas | None) -> int:
    if canvas is None:
        return 0
    return sum(count for state, count in canvas.states.items() if not state.is_final)


def _missing(visit: Visit, task_id: str) -> Response:
    """No row has this id: what is known of that."""
    database = visit.source.database
    explained = explain(database, task_id) if task_id else None
    actions = database.audit.list_seen(task_id) if task_id else []
    deleted = next((each for each in actions if each.action == "delete_jobs"), None)
    return visit.render(
        "job_missing.html",
        404,
        task_id=visible(task_id[:200]),
        explained=explained,
        deleted=deleted,
        actions=actions,
        meanings=ACTIONS,
        ages=_ages(visit.source.app),
    )


def _ages(app: Any) -> str:
    """For how long rows are kept, in a sentence; empty where the app is not known."""
    if app is None:
        return ""
    from ...config import read_settings

    settings = read_settings(app.conf)
    words = []
    for what, age in (
        ("completed and cancelled jobs", settings.prune_max_age),
        ("failed ones", settings.prune_failed_max_age),
    ):
        words.append(f"{what} {f'for {span(age)}' if age else 'for ever'}")
    return f"This app keeps {', '.join(words)} after their end."


def download(visit: Visit) -> Response:
    """Arguments or result in full, redacted as they are on the page."""
    task_id, part = visit.query.get("id", ""), visit.query.get("part", "")
    rows = visit.source.database.results.get_results([task_id], extended=True)
    if not rows or part not in PARTS:
        return _missing(visit, task_id)
    row = rows[0]._replace(
        body=None if rows[0].body is None else bytes(rows[0].body),
        result=None if rows[0].result is None else bytes(rows[0].result),
    )
    full = part_in_full(row, part, visit.site.redaction, visit.source.app)
    if isinstance(full, Unread):
        text = full.why or "There is none."
        return visit.render("problem.html", 404, title="This cannot be downloaded", text=text)
    text, media_type = full
    name = f"{part}.{'json' if media_type == JSON else 'txt'}"
    return Response(
        text.encode("utf-8", "backslashreplace"),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


ROUTES = (
    Page("/job", job, "job"),
    Page("/job/download", download, "job_download"),
    *job_acts.ROUTES,
)
