"""The URLs and options that kombu's connection, the client, has for the transport."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from kombu.utils.url import as_url

from ..config import Options, is_news, read_options
from ..db.dsn import Target
from ..errors import InvalidURL
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))


def hide_passwords(client: Any) -> None:
    """Put what may be shown where kombu looks for what to show.

    kombu shows a connection's hostname and alternates in log lines, ``inspect stats`` and reprs.
    A Target reads ``user@host:port/database``; having no ``://``, kombu's failover takes it as the
    host it is, where it would read the URL's scheme as a transport's name.
    """
    if not isinstance(client.hostname, Target):
        client.hostname = Target(_url(client))
    _show_parts(client)
    if any(not isinstance(alternate, Target) for alternate in client.alt):
        client.alt[:] = [
            each if isinstance(each, Target) else Target(with_scheme(each)) for each in client.alt
        ]
        client.cycle = client.failover_strategy(client.alt)
        next(client.cycle)
    listen_url = (client.transport_options or {}).get("listen_url")
    if listen_url and not isinstance(listen_url, Target):
        client.transport_options = {**client.transport_options, "listen_url": Target(listen_url)}
    client._initial_params.update(
        hostname=client.hostname, userid=None, password=None, port=None, transport="pgjobs"
    )


def _show_parts(client: Any) -> None:
    """Say port, user and database where kombu has them for other brokers' URLs."""
    client.password = client.port = client.userid = None
    vars(client).update(client.hostname.parts)
    # kombu would write the ``pgjobs+`` of the URL in front of the target, for each connection that
    # it makes like this one.
    client.uri_prefix = None


def show_parts_early(client: Any, port: int | None, virtual_host: str | None) -> None:
    """Have a connection say port, user and database before it connects, and show no password.

    Called with what kombu was given for both: it would keep those of the URL before, where the new
    one says none.
    """
    if not client.hostname:
        return
    client.port, client.virtual_host = port, virtual_host or "/"
    with suppress(InvalidURL):  # which is raised when it connects
        if "://" in client.hostname:
            client.hostname = Target(client.hostname)
        if isinstance(client.hostname, Target):
            _show_parts(client)


def show_place(client: Any, conninfo: str) -> None:
    """Have a connection name the one of its URLs to which the process has gone on by now.

    kombu begins each list at its first URL, and another of its connections has found that dead.
    """
    for each in client.alt:
        if each.conninfo == conninfo != client.hostname.conninfo:
            client.hostname = each
            _show_parts(client)


def _url(client: Any) -> str:
    """Where to connect: ``switch()`` takes a URL apart, and some give kombu the parts."""
    if client.hostname and "://" in client.hostname:
        return str(client.hostname)
    path = (client.virtual_host or "").lstrip("/")
    if not (client.userid or client.password or client.port or path):
        return with_scheme(client.hostname)
    parts = (client.hostname, client.port, client.userid, client.password, path or None)
    return str(as_url("pgjobs", *parts))


def with_scheme(url: str | None) -> str:
    """The URL as it was given: kombu cuts the scheme off ``pgjobs+postgresql://``."""
    return url if url and "://" in url else f"pgjobs://{url or ''}"


def read_client_options(client: Any) -> Options:
    """The transport options of a kombu connection; a warning, once, for each that is not ours."""
    given = dict(client.transport_options or {})
    if "connect_timeout" not in given and client.connect_timeout:
        given["connect_timeout"] = client.connect_timeout
    options, warnings = read_options(given)
    for warning in warnings:
        if is_news(warning):
            logger.warning(warning)
    return options
