"""Serve the page by uvicorn, until a signal comes."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ..errors import PgJobsError
from .proxies import UNIX, BehindProxy, read_networks

if TYPE_CHECKING:
    from starlette.applications import Starlette

#: How long requests may take to end after a signal, in seconds. A handler whose database is silent
#: is left behind then: what it had begun is rolled back by the server.
GRACE = 3.0


@contextmanager
def listen(address: str, port: int) -> Iterator[socket.socket]:
    """The socket to serve; 0 is any port. Raises PgJobsError where it cannot be had."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.create_server((address, port), family=family, backlog=512)
    except OSError as error:
        # create_server() puts the address into its text.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PgJobsError(f"port {port} at {address} cannot be had: {reason}") from None
    with sock:
        yield sock


def serve(
    page: Starlette,
    sock: socket.socket,
    *,
    trust: Sequence[str],
    prefix: str = "",
    strips: bool = False,
) -> None:
    """Answer until SIGINT or SIGTERM. Raises InvalidOption for a network or a prefix.

    ``trust`` are the proxies whose ``X-Forwarded-Proto``, ``-For`` and ``-Prefix`` count.
    """
    networks = read_networks(trust)
    hosts = [word.strip() for each in trust for word in each.split(",") if word.strip() != UNIX]
    known = ProxyHeadersMiddleware(page, trusted_hosts=hosts)  # type: ignore[arg-type]
    config = uvicorn.Config(
        BehindProxy(known, networks, prefix, strips=strips),  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
    )
    server = Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises a signal once more when it has ended, for whoever had it before.
        signal.signal(number, server.handle_exit)
    server.run(sockets=[sock])


class Server(uvicorn.Server):
    """Ends soon after a signal, whatever goes on; streams end by themselves as they see it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn has it: called by a signal."""
        if not self.should_exit:
            # Requests are waited for, and the database of one may have stopped. uvicorn's own limit
            # is no end: it cancels, logs that as an error, and asyncio waits for the threads then.
            last = threading.Timer(GRACE, os._exit, [0])
            last.daemon = True
            last.start()
        super().handle_exit(sig, frame)
