"""Pages and actions, as their modules declare them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from starlette.responses import Response

    from .visit import Visit


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


Route = Page | Act
