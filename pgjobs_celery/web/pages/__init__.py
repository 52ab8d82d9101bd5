"""The pages, one module each."""

from ..routes import Route
from . import bulk, failures, job, jobs, overview, queues, tasks

#: All pages and actions; those with a title stand in the bar in this order.
ROUTES: tuple[Route, ...] = (
    *overview.ROUTES,
    *jobs.ROUTES,
    *bulk.ROUTES,
    *job.ROUTES,
    *failures.ROUTES,
    *queues.ROUTES,
    *tasks.ROUTES,
)
