"""The first page: whether anything is wrong, and how all stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...control.attention import attention
from ...db.rights import quoted
from ..examinations import examination
from ..job_view import without_secrets
from ..panels import depth_spark, panels
from ..routes import Page
from ..windows import Past, now

if TYPE_CHECKING:
    from starlette.responses import Response

    from ...control.overview import QueueNow
    from ..visit import Visit

#: How many queues, workers and failures stand on it; the pages of their own have all.
QUEUES, WORKERS, FAILURES = 12, 12, 8


def overview(visit: Visit) -> Response:
    """One line, what needs somebody, charts, queues, workers and the newest failures."""
    database, past = visit.source.database, Past(visit)
    present, found = now(visit), past.series()
    seen = present.seen
    doctor = examination(visit.site.examiners, visit.source)
    findings = doctor.report.findings if doctor else ()
    depths = past.lines("queue")
    queues = sorted(seen.queues, key=_importance)
    failures = seen.failures[:FAILURES]
    errors = without_secrets(visit, ((each.task_id, each.task, each.error) for each in failures))
    return visit.render(
        "overview.html",
        seen=seen,
        present=present,
        window=past.window,
        found=found,
        charts=panels(found),
        matters=attention(findings, seen.queues, past.failing()),
        doctor=doctor,
        queues=queues[:QUEUES],
        more_queues=len(queues) - QUEUES,
        sparks={each.name: depth_spark(depths.get(each.name[:200])) for each in queues[:QUEUES]},
        workers=seen.workers[:WORKERS],
        more_workers=len(seen.workers) - WORKERS,
        failures=failures,
        error_of=lambda each: errors[each.task_id, each.task, each.error],
        schema=quoted(database.schema),
    )


def _importance(queue: QueueNow) -> tuple[float, float, str]:
    """The longest waits first, then the fullest."""
    return (-(queue.oldest_wait or 0.0), -queue.running, queue.name)


ROUTES = (Page("/", overview, "overview", "Overview"),)
