"""``dashboard(app)``: the page as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.routing import Route as Path
from starlette.staticfiles import StaticFiles

from .pages import ROUTES
from .redact import Redaction
from .roles import Role, merge_permissions
from .routes import Page, Route
from .site import STATIC, Login, Site, everybody
from .sources import Source, read_sources


def dashboard(
    sources: Any,
    *,
    role: str | Role = Role.VIEWER,
    login: Login | None = None,
    permissions: Mapping[str, str | Role] | None = None,
    trusted_origins: Sequence[str] = (),
    title: str = "Jobs",
    redaction: Redaction | None = None,
) -> Starlette:
    """The page for the jobs of a Celery app, as an ASGI application to run or to mount.

    ``sources`` is an app, a ``pgjobs://`` URL, or a dict of them by name. Everybody who can reach
    the page has ``role``, unless ``login``, called with the request, returns another
    :class:`User`, an answer that asks for one, or None to turn the visitor away. ``permissions``
    change the role that an action needs. ``redaction`` says which values are not shown; passwords,
    tokens and their like by themselves. Raises InvalidOption for what cannot be used, and
    PgJobsError for an app whose jobs are elsewhere; it does not connect yet.
    """
    site = Site(
        sources=read_sources(sources),
        routes=ROUTES,
        login=login or everybody(Role.of(role)),
        permissions=merge_permissions(permissions or {}),
        title=title,
        redaction=redaction or Redaction(),
        trusted_origins=tuple(trusted_origins),
    )
    paths: list[BaseRoute] = [Mount("/static", StaticFiles(directory=STATIC), name="static")]
    for source in site.sources.values():
        paths += (_path(site, route, source) for route in site.routes)
        paths.append(Path(f"{site.prefix(source)}/live", site.stream(source)))
    if len(site.sources) > 1:
        first = next(iter(site.sources))
        paths.append(Path("/", lambda request: _enter(request, first)))
    app = Starlette(routes=paths)
    app.state.pgjobs = site
    return app


def _path(site: Site, route: Route, source: Source) -> Path:
    return Path(
        site.prefix(source) + route.path,
        site.endpoint(route, source),
        methods=["GET"] if isinstance(route, Page) else ["POST"],
    )


def _enter(request: Request, name: str) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '').rstrip('/')}/{name}/")
