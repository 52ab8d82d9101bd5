"""``dashboard(app)``: the page as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute
from starlette.routing import Route as Path

from ..errors import InvalidOption
from .endpoint import LIVE, Endpoint
from .health import Health
from .logins import Login, everybody
from .pages import ROUTES
from .redact import Redaction
from .roles import May, Role, Rules, merge_permissions
from .routes import Act, Route
from .security import Secured, put_headers
from .site import Site
from .sources import Source, read_sources


def dashboard(
    sources: Any,
    *,
    schema: str = "",
    role: str | Role = Role.VIEWER,
    login: Login | None = None,
    permissions: Mapping[str, str | Role] | None = None,
    may: May | None = None,
    trusted_origins: Sequence[str] = (),
    hosts: Sequence[str] = (),
    title: str = "Jobs",
    redaction: Redaction | None = None,
) -> Starlette:
    """The page for the jobs of a Celery app, as an ASGI application to run or to mount.

    ``sources`` is an app, a ``pgjobs://`` URL, a dict of such a ``url`` and transport options, or a
    dict of all of these by name; ``schema`` is that of URLs. Everybody who can reach the page has
    ``role``, unless ``login``, called with the request, returns another
    :class:`~pgjobs_celery.web.User`, an answer that asks for one, or None to turn the visitor away;
    it may be async, and otherwise runs in a thread.

    ``permissions`` change the role that an action needs; ``may(user, action)`` decides before the
    roles: True, False, or None for what they say. ``trusted_origins`` are addresses
    (``https://example.com``) from which forms may come although the browser calls them another
    site. ``hosts`` are the only names under which the page is shown; empty: any, as befits a page
    with a login, or behind a check of its own. ``redaction`` says which values are not shown;
    passwords, tokens and their like by themselves.

    Raises InvalidOption for what cannot be used, and PgJobsError for an app whose jobs are
    elsewhere; it does not connect yet.

        app.mount("/jobs", dashboard(celery_app, role="operator"))
    """
    site = Site(
        sources=read_sources(sources, schema),
        routes=ROUTES,
        login=login or everybody(role),
        rules=Rules(merge_permissions(permissions or {}), may),
        title=title,
        redaction=redaction or Redaction(),
        trusted_origins=frozenset(map(_origin, trusted_origins)),
        hosts=frozenset(host.strip("[]").lower() for host in hosts),
    )
    paths: list[BaseRoute] = [
        Path("/static/{name}", partial(_static, site)),
        Path("/health", Health(site).answer),
    ]
    for source in site.sources.values():
        paths += (_path(site, route, source) for route in (*site.routes, LIVE))
    if len(site.sources) > 1:
        paths.append(Path("/", partial(_enter, next(iter(site.sources)))))
    app = Starlette(
        routes=paths,
        middleware=[Middleware(Secured)],
        exception_handlers={HTTPException: _not_there, Exception: _broken},
    )
    # Its redirects name the host that the request has named.
    app.router.redirect_slashes = False
    app.state.pgjobs = site
    return app


def _path(site: Site, route: Route, source: Source) -> Path:
    return Path(
        site.prefix(source) + route.path,
        Endpoint(site, route, source).answer,
        methods=["POST"] if isinstance(route, Act) else ["GET"],
    )


def _origin(given: str) -> str:
    scheme, separator, host = given.rstrip("/").partition("://")
    if scheme not in ("http", "https") or not separator or not host or "/" in host:
        raise InvalidOption(
            f"an origin is a scheme and a host, such as https://example.com, not {given!r}"
        )
    return f"{scheme}://{host}".lower()


async def _static(site: Site, request: Request) -> Response:
    file = site.files.get(request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    is_named = request.query_params.get("v") == file.version
    keep = "public, max-age=31536000, immutable" if is_named else "no-cache"
    return Response(file.body, media_type=file.media_type, headers={"Cache-Control": keep})


async def _enter(name: str, request: Request) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '').rstrip('/')}/{name}/")


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "There is no such page.", 405: "This is not how it is asked for."}
    text = words.get(error.status_code, error.detail)
    return PlainTextResponse(f"{text}\n", error.status_code, error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    # Outside of the middleware, and told by the server's log.
    response = PlainTextResponse("The page is broken: the log of the server says why.\n", 500)
    put_headers(response.headers)
    return response
