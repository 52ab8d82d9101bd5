"""How a request is answered: who asks, may they, then the handler in a thread; errors are pages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..control.acting import acting_as, acting_through
from ..db.database import CONNECTION_ERRORS, REFUSALS, OutOfTime, answered_by
from ..db.failures import is_cancelled
from ..errors import ConnectionFailed, InvalidOption, PermissionMissing, PgJobsError
from ..printable import guarded
from ..scopes.steady import monotonic
from .live import Live
from .logins import ask
from .roles import User
from .routes import Act, Page, Route, Stream
from .security import CSRF, Unreadable, forgery, is_known_host, keep_token, read_form
from .site import Site
from .sources import AT_ONCE, Source
from .visit import FLASH, Visit

logger = guarded(logging.getLogger(__name__))

#: How long the database may take for a page, and for an action, in seconds. Kept here and not by
#: the server (statement_timeout): one that is stopped keeps no limit, and a pooler no setting.
PAGE_LIMIT, ACT_LIMIT = 10.0, 30.0

#: How the audit names the way.
WEB = "web"

NOTHING_DONE = "Nothing was changed"

#: The threads of an event loop for each source: one whose database is stopped must not take those
#: of the others. By the event loop, since a program may serve a page in several.
_limiters: anyio.lowlevel.RunVar[dict[int, anyio.CapacityLimiter]] = anyio.lowlevel.RunVar(
    "pgjobs-web-limiters"
)


async def stream(visit: Visit) -> Response:
    """The events of a source."""
    return visit.site.live[visit.source.name].respond()


#: The topics that change, for the script of the pages.
LIVE = Stream("/live", stream, "live")


@dataclass(frozen=True)
class Endpoint:
    """One page, action or stream, of one source."""

    site: Site
    route: Route
    source: Source

    async def answer(self, request: Request) -> Response:
        """The function that Starlette calls."""
        user = await find_user(self.site, request)
        if isinstance(user, Response):
            return user
        visit = Visit(request, self.site, self.source, user)
        visit.page = self.route.name if isinstance(self.route, (Page, Stream)) else ""
        route = self.route
        if isinstance(route, Stream):
            return await route.handler(visit)
        if isinstance(route, Act):
            try:
                visit.form = await read_form(request)
            except Unreadable as error:
                return problem(visit, error.status, NOTHING_DONE, f"{error}.")
            if why := forgery(request, str(visit.form.get(CSRF, "")), self.site.trusted_origins):
                return problem(visit, 403, NOTHING_DONE, f"The request was refused: {why}.")
        live = self.site.live[self.source.name] if "x-live" in request.headers else None
        response = await in_thread(visit, lambda: timed(route, visit, live))
        if live is not None:
            response.headers["X-Pace"] = f"{live.pace:.2f}"
        keep_token(request, response, visit.token, visit.base)
        if isinstance(route, Page) and FLASH in request.cookies:
            response.delete_cookie(FLASH, path=visit.base or "/")
        return response


async def find_user(site: Site, request: Request) -> User | Response:
    """The visitor, or the answer to one who is not known."""
    if not is_known_host(request.headers.get("host", ""), site.hosts):
        return PlainTextResponse("The page is not shown under this name.\n", 421)
    try:
        user = await ask(site.login, request)
    except InvalidOption as error:
        logger.warning("a visitor was turned away: %s", error)
        user = None
    return PlainTextResponse("You may not see this page.\n", 403) if user is None else user


async def in_thread(visit: Visit, work: Callable[[], Response]) -> Response:
    """``work()`` in one of the source's threads; or a page that says that all are busy."""
    limiters = _limiters.get(None)
    if limiters is None:
        _limiters.set(limiters := {})
    limiter = limiters.setdefault(id(visit.source), anyio.CapacityLimiter(AT_ONCE))
    with anyio.move_on_after(PAGE_LIMIT):
        return await anyio.to_thread.run_sync(work, limiter=limiter)
    return too_late(visit)


def timed(route: Page | Act, visit: Visit, live: Live | None) -> Response:
    """The answer; ``live`` is told how long it took, without the wait for a thread."""
    began = monotonic()
    response = answer(route, visit)
    if live is not None:
        live.spent(monotonic() - began)
    return response


def answer(route: Page | Act, visit: Visit) -> Response:
    """Call the handler; what goes wrong is told on a page."""
    is_act = isinstance(route, Act)
    try:
        with ExitStack() as stack:
            stack.enter_context(answered_by(monotonic() + (ACT_LIMIT if is_act else PAGE_LIMIT)))
            visit.rights = visit.source.rights
            if isinstance(route, Page):
                return route.handler(visit)
            if refused := refuse(visit, route.permission):
                return refused
            stack.enter_context(acting_through(WEB))
            stack.enter_context(acting_as(visit.user.name))
            return route.handler(visit)
    except PermissionMissing as error:
        return problem(visit, 403, "The database role may not do this", str(error))
    except OutOfTime:
        return too_late(visit)
    except (ConnectionFailed, *CONNECTION_ERRORS) as error:
        if is_cancelled(error):
            return too_late(visit)
        logger.warning("%s cannot be reached: %s", visit.source.place, error)
        return problem(visit, 503, "The database cannot be reached", str(error))
    except (PgJobsError, *REFUSALS) as error:
        return problem(visit, 400, "This cannot be done", str(error))


def refuse(visit: Visit, action: str) -> Response | None:
    """The answer to a visitor, or to a database role, that may not do it; None if it may."""
    if why := visit.site.rules.refusal(visit.user, action):
        return problem(visit, 403, NOTHING_DONE, f"{why}.")
    if visit.rights is not None and (why := visit.rights.refused.get(action)):
        grants = visit.rights.grants.get(action, "")
        remedy = f"; let the owner of the schema run: {grants}" if grants else "."
        return problem(visit, 403, "The database role may not do this", f"Here {why}{remedy}")
    return None


def too_late(visit: Visit) -> Response:
    """The page of a database that does not answer in time."""
    logger.warning("%s has not answered in time", visit.source.place)
    text = f"It was given {PAGE_LIMIT:g} seconds for a page, and {ACT_LIMIT:g} for an action."
    return problem(visit, 504, "The database has not answered in time", text)


def problem(visit: Visit, status: int, title: str, text: str) -> Response:
    """A page that says what went wrong; it needs no database."""
    return visit.render("problem.html", status, title=title, text=text)
