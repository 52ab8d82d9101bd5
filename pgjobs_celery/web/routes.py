"""Pages, actions and streams, as their modules declare them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from starlette.responses import Response

    from .visit import Visit


#: The key in the scope that is True where a stream would keep a thread of the server for itself.
POLLS = "pgjobs_polls"


class Page(NamedTuple):
    """What is looked at, by GET."""

    path: str
    handler: Callable[[Visit], Response]
    #: Its name in ``url(name)``.
    name: str
    #: Its word in the bar of all pages; nothing where it does not stand there.
    title: str = ""


class Act(NamedTuple):
    """What changes something, by POST; token, role and audit are seen to before it is called."""

    path: str
    handler: Callable[[Visit], Response]
    #: One of :data:`~pgjobs_celery.web.roles.PERMISSIONS`; also its name in ``url(name)``, unless
    #: it has one of its own.
    permission: str
    name: str = ""


class Stream(NamedTuple):
    """What goes on, by GET: events. Its handler runs in the event loop, and must never block it."""

    path: str
    handler: Callable[[Visit], Awaitable[Response]]
    #: Its name in ``url(name)``.
    name: str


Route = Page | Act | Stream


def name_of(route: Route) -> str:
    """The name that ``url(name)`` knows it by."""
    return route.name or route.permission if isinstance(route, Act) else route.name
