"""The pages, one module each."""

from ..routes import Route
from . import failures, job, overview

#: All pages and actions; those with a title stand in the bar in this order.
ROUTES: tuple[Route, ...] = (*overview.ROUTES, *job.ROUTES, *failures.ROUTES)
