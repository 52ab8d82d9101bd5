"""The pages, one module each."""

from ..routes import Route
from . import (
    audit,
    bulk,
    failures,
    job,
    jobs,
    new_job,
    overview,
    queue_rules,
    queues,
    schedules,
    tasks,
    workers,
)  # fmt: skip

#: All pages and actions; those with a title stand in the bar in this order.
ROUTES: tuple[Route, ...] = (
    *overview.ROUTES,
    *jobs.ROUTES,
    *bulk.ROUTES,
    *new_job.ROUTES,
    *job.ROUTES,
    *failures.ROUTES,
    *queues.ROUTES,
    *queue_rules.ROUTES,
    *tasks.ROUTES,
    *schedules.ROUTES,
    *workers.ROUTES,
    *audit.ROUTES,
)
