"""A PostgreSQL for tests: the one that PGJOBS_TEST_DSN names, or an embedded one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from ..db.databases import create_database, drop_database, migrate_database
from ..embedded import EmbeddedServer
from ..node import close_nodes

#: A server on which databases may be created, as a ``postgresql://`` or ``pgjobs://`` URI.
VARIABLE = "PGJOBS_TEST_DSN"


@contextmanager
def open_server() -> Iterator[str]:
    """The URL of a server for the length of the block.

    Raises EmbeddedServerMissing where there is neither.
    """
    dsn = os.environ.get(VARIABLE, "")
    if dsn:
        yield with_database(dsn)
        return
    with EmbeddedServer(settings={"fsync": "off", "max_connections": 200}) as server:
        yield server.url


@contextmanager
def open_database(server_url: str) -> Iterator[str]:
    """The URL of a migrated database of its own on that server; dropped after the block."""
    name = f"pgjobs_test_{uuid4().hex[:12]}"
    create_database(server_url, name)
    url = with_database(server_url, name)
    try:
        migrate_database(url)
        yield url
    finally:
        close_nodes()
        drop_database(server_url, name)


def with_database(server_url: str, name: str = "") -> str:
    """The URL of a database on the server, as a broker URL."""
    parts = urlsplit(server_url)
    return urlunsplit(parts._replace(scheme="pgjobs", path=f"/{name}" if name else parts.path))
