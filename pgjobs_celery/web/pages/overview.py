"""The first page: how all stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...control.overview import overview as look
from ..routes import Page

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit


def overview(visit: Visit) -> Response:
    """Queues, workers and the newest failures."""
    return visit.render("overview.html", seen=look(visit.source.database))


ROUTES = (Page("/", overview, "overview", "Overview"),)
