"""``as_wsgi(page)``: the page for a WSGI server, such as Flask's under gunicorn."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from a2wsgi import ASGIMiddleware

from .proxies import PEER, UNIX
from .routes import POLLS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: The characters that a query may consist of; all else is written as %XX.
_QUERY = "".join(map(chr, range(0x21, 0x7F)))


class as_wsgi:  # noqa: N801
    """The page as a WSGI application, to be mounted in another.

        flask_app.wsgi_app = DispatcherMiddleware(flask_app.wsgi_app, {"/jobs": as_wsgi(page)})

    It is served by one thread of each process, which begins with the process's first request: so
    it survives a fork after the import (``gunicorn --preload``). A stream of events would keep a
    thread of the server for itself: pages ask every few seconds instead. A login finds what the
    server knows in ``request.scope["wsgi_environ"]``.
    """

    def __init__(self, page: ASGIApp) -> None:
        self._page = page
        self._served: tuple[int, ASGIMiddleware] | None = None
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """As PEP 3333 has it."""
        # A path that is not ASCII, or no UTF-8, is taken apart here rather than in a2wsgi.
        environ = {
            **environ,
            "QUERY_STRING": quote(environ.get("QUERY_STRING", "").encode("latin-1"), safe=_QUERY),
            "SCRIPT_NAME": _valid(environ.get("SCRIPT_NAME", "").rstrip("/")),
            "PATH_INFO": _valid(environ.get("PATH_INFO", "")),
        }
        found: Iterable[bytes] = self._middleware()(environ, start_response)  # type: ignore[arg-type]
        return found

    def _middleware(self) -> ASGIMiddleware:
        served = self._served
        if served is None or served[0] != os.getpid():
            with self._lock:
                served = self._served
                if served is None or served[0] != os.getpid():
                    middleware = ASGIMiddleware(self._answer)  # type: ignore[arg-type]
                    served = self._served = (os.getpid(), middleware)
        return served[1]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        environ = scope["wsgi_environ"]
        peer = environ.get("REMOTE_ADDR") or UNIX
        await self._page({**scope, PEER: peer, POLLS: True}, receive, send)


def _valid(path: str) -> str:
    """A path as WSGI has it, latin-1 of UTF-8, with what is no UTF-8 replaced."""
    return path.encode("latin-1", "replace").decode("utf-8", "replace").encode().decode("latin-1")
