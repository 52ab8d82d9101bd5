"""The configuration of a page, and how each request is answered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from inspect import isawaitable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import jinja2
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..control.acting import acting_as, acting_through
from ..db.database import CONNECTION_ERRORS, REFUSALS
from ..errors import ConnectionFailed, PermissionMissing, PgJobsError
from ..printable import guarded
from ..scopes.steady import monotonic
from . import words
from .live import Live
from .redact import Redaction
from .roles import Role, User
from .routes import Act, Page, Route
from .security import CSRF, forgery, keep_token, secure
from .sources import AT_ONCE, Source
from .visit import FLASH, Visit

logger = guarded(logging.getLogger(__name__))

HERE = Path(__file__).parent
STATIC = HERE / "static"

#: Says who asks: a user, or the answer that asks for a login; None turns the request away.
Login = Callable[[Request], "User | Response | Awaitable[User | Response | None] | None"]

#: How the audit names the way.
WEB = "web"


@dataclass
class Site:
    """A page as it was configured."""

    sources: Mapping[str, Source]
    routes: Sequence[Route]
    login: Login
    permissions: Mapping[str, Role]
    title: str = "Jobs"
    #: What of a row may not be shown.
    redaction: Redaction = field(default_factory=Redaction)
    #: Addresses from which forms may come although the browser calls them another site.
    trusted_origins: Sequence[str] = ()
    limiter: anyio.CapacityLimiter | None = field(default=None, init=False)
    #: The visitors who watch each source, by its name.
    live: dict[str, Live] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.live.update((name, Live(each.database)) for name, each in self.sources.items())

    @cached_property
    def paths(self) -> dict[str, str]:
        """The path of each page and action by its name."""
        return {
            route.name or route.permission if isinstance(route, Act) else route.name: route.path
            for route in self.routes
        }

    @cached_property
    def bar(self) -> list[Page]:
        """The pages that are named at the top of all."""
        return [route for route in self.routes if isinstance(route, Page) and route.title]

    @cached_property
    def templates(self) -> jinja2.Environment:
        """The templates; everything that they show is escaped."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(words.FILTERS)
        environment.globals.update(site=self, share=words.share)
        return environment

    @cached_property
    def _versions(self) -> dict[str, str]:
        return {path.name: sha256(path.read_bytes()).hexdigest()[:10] for path in STATIC.iterdir()}

    def version(self, name: str) -> str:
        """Changes with the file, so that browsers may keep it."""
        return self._versions[name]

    def prefix(self, source: Source) -> str:
        """What the paths of a source begin with: its name, if there are several."""
        return f"/{source.name}" if len(self.sources) > 1 else ""

    def endpoint(self, route: Route, source: Source) -> Callable[[Request], Awaitable[Response]]:
        """What Starlette calls."""

        async def endpoint(request: Request) -> Response:
            user = await self._log_in(request)
            if isinstance(user, Response):
                return secure(user)
            visit = Visit(request, self, source, user)
            if isinstance(route, Act):
                visit.form = await request.form(max_files=0)
                refused = self._refuse(visit, route)
                if refused is not None:
                    return secure(refused)
            else:
                visit.page = route.name
            if self.limiter is None:
                self.limiter = anyio.CapacityLimiter(AT_ONCE)
            began = monotonic()
            response = await anyio.to_thread.run_sync(answer, route, visit, limiter=self.limiter)
            if "x-live" in request.headers:
                live = self.live[source.name]
                live.spent(monotonic() - began)
                response.headers["X-Pace"] = f"{live.pace:.2f}"
            keep_token(request, response, visit.token, visit.base)
            if isinstance(route, Page) and FLASH in request.cookies:
                response.delete_cookie(FLASH, path=visit.base or "/")
            return secure(response)

        return endpoint

    def stream(self, source: Source) -> Callable[[Request], Awaitable[Response]]:
        """What Starlette calls for the events of a source."""

        async def stream(request: Request) -> Response:
            user = await self._log_in(request)
            if isinstance(user, Response):
                return secure(user)
            return secure(self.live[source.name].respond())

        return stream

    async def _log_in(self, request: Request) -> User | Response:
        """The visitor, or the answer to one who is not let in."""
        user = self.login(request)
        if isawaitable(user):
            user = await user
        if user is None:
            return PlainTextResponse("You are not logged in here.\n", 403)
        return user

    def _refuse(self, visit: Visit, act: Act) -> Response | None:
        """The answer to one who may not act, or whose browser was made to."""
        if why := forgery(visit.request, str(visit.form.get(CSRF, "")), self.trusted_origins):
            return problem(visit, 403, "Nothing was changed", f"The request was refused: {why}.")
        if not visit.may(act.permission):
            needed = self.permissions[act.permission]
            text = f"{visit.user.name} is {visit.user.role}; this needs {needed}."
            return problem(visit, 403, "Nothing was changed", text)
        return None


def answer(route: Route, visit: Visit) -> Response:
    """Call the handler; what goes wrong is told on a page."""
    try:
        if isinstance(route, Page):
            return route.handler(visit)
        with acting_through(WEB), acting_as(visit.user.name):
            return route.handler(visit)
    except (ConnectionFailed, *CONNECTION_ERRORS) as error:
        logger.warning("%s cannot be reached: %s", visit.source.place, error)
        return problem(visit, 503, "The database cannot be reached", str(error))
    except PermissionMissing as error:
        return problem(visit, 403, "The database role may not do this", str(error))
    except (PgJobsError, *REFUSALS) as error:
        return problem(visit, 400, "This cannot be done", str(error))


def problem(visit: Visit, status: int, title: str, text: str) -> Response:
    """A page that says what went wrong; it needs no database."""
    return visit.render("problem.html", status, title=title, text=text)


def everybody(role: Role, name: str = "") -> Login:
    """The login of a page without one: each visitor has this role."""
    user = User(name or f"web visitor ({role})", role)

    def login(request: Request) -> Any:
        return user

    return login
