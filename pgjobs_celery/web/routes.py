"""Pages, actions and streams, as their modules declare them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from starlette.responses import Response


#: The key in the scope that is True where a stream would keep a thread of the server for itself.
POLLS = "pgjobs_polls"


#: Takes a :class:`~pgjobs_celery.web.visit.Visit`, which stands above: it knows all routes.
Handler: TypeAlias = "Callable[[Any], Response]"


class Page(NamedTuple):
    """A page to look at, by GET."""

    path: str
    handler: Handler
    #: Its name in ``url(name)``.
    name: str
    #: Its word in the bar of all pages; nothing where it does not stand there.
    title: str = ""


class Act(NamedTuple):
    """An action, by POST; token, role and audit are seen to before it is called."""

    path: str
    handler: Handler
    #: One of :data:`~pgjobs_celery.web.roles.PERMISSIONS`; also its name in ``url(name)``, unless
    #: it has one of its own.
    permission: str
    name: str = ""


class Stream(NamedTuple):
    """A stream of events, by GET. Its handler runs in the event loop, and must never block it."""

    path: str
    handler: Callable[[Any], Awaitable[Response]]
    #: Its name in ``url(name)``.
    name: str


Route = Page | Act | Stream


def name_of(route: Route) -> str:
    """The name that ``url(name)`` knows it by."""
    return route.name or route.permission if isinstance(route, Act) else route.name
