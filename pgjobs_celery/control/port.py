"""A small HTTP port: scrapes of metrics, and probes. It answers in threads of its own."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from weakref import WeakSet

from ..printable import guarded

logger = guarded(logging.getLogger(__name__))

#: How long a client may take to ask, in seconds.
TIMEOUT = 5.0
#: How many are answered at once: a scraper and some probes.
AT_ONCE = 8


class Answer(NamedTuple):
    """The answer to a GET."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


#: Given the Accept header.
Route = Callable[[str], Answer]


class Port:
    """Serves paths until it is closed. A fork's child does not have it."""

    def __init__(self, address: str, port: int, routes: Mapping[str, Route]) -> None:
        """Raises OSError where the port is taken. 0 stands for any: see :attr:`number`."""
        places = threading.BoundedSemaphore(AT_ONCE)

        class Handler(BaseHTTPRequestHandler):
            timeout = TIMEOUT
            server_version, sys_version = "pgjobs-celery", ""

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                route = routes.get(path)
                if route is None:
                    self._send(Answer(404, f"{' '.join(sorted(routes))}\n".encode()))
                elif not places.acquire(blocking=False):
                    self._send(Answer(503, b"too many requests at once\n"))
                else:
                    try:
                        self._send(answer(route, self.headers.get("Accept", "")))
                    finally:
                        places.release()

            def do_HEAD(self) -> None:
                self.do_GET()

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            def log_message(self, format: str, *args: Any) -> None:
                logger.debug(format, *args)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

            def handle_error(self, request: Any, client_address: Any) -> None:
                logger.debug("a request of %s failed", client_address, exc_info=True)

        self._server = Server((address, port), Handler)
        #: The number of the port.
        self.number: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="pgjobs-port", daemon=True
        )
        self._thread.start()
        _open.add(self)

    def close(self) -> None:
        """Answer no more."""
        _open.discard(self)
        self._server.shutdown()
        self._server.server_close()

    def abandon(self) -> None:
        """In a fork's child: the port is the parent's alone, or nobody could have it after that."""
        self._server.socket.close()


def answer(route: Route, accept: str) -> Answer:
    """The route's answer, or that it failed."""
    try:
        return route(accept)
    except Exception as error:
        logger.warning("a request failed: %s", error)
        return Answer(503, f"{type(error).__name__}: {error}\n".encode(errors="replace"))


_open: WeakSet[Port] = WeakSet()


def _abandon_ports() -> None:
    for port in list(_open):
        port.abandon()
    _open.clear()


os.register_at_fork(after_in_child=_abandon_ports)
