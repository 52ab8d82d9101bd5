"""Proxies in front of the page: which of them are trusted, and the path at which they show it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidOption

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Where the scope keeps the address that a request came from, whatever its headers say.
PEER = "pgjobs_peer"
#: The name of a peer that has no address: the other end of a socket in the file system.
UNIX = "unix"

_PREFIX = re.compile(r"(/[A-Za-z0-9_.~@:+-]+)*")


class Networks:
    """Addresses and networks."""

    def __init__(self, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
        self._networks = networks
        self.has_unix = False

    def __contains__(self, peer: object) -> bool:
        if peer == UNIX:
            return self.has_unix
        try:
            address = ipaddress.ip_address(str(peer).partition("%")[0])
        except ValueError:
            return False
        # A socket for both kinds of addresses has IPv4's as ::ffff:10.0.0.1.
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self._networks)

    def __bool__(self) -> bool:
        return self.has_unix or bool(self._networks)


def read_networks(given: str | Sequence[str]) -> Networks:
    """``10.0.0.0/8``, an address, or ``unix``; with commas between. Raises InvalidOption."""
    each = given.split(",") if isinstance(given, str) else given
    words = [word.strip() for word in each if word.strip()]
    try:
        networks = Networks(
            [ipaddress.ip_network(word, strict=False) for word in words if word != UNIX]
        )
    except ValueError as error:
        raise InvalidOption(
            f"trust names addresses or networks, such as 10.0.0.0/8: {error}"
        ) from None
    networks.has_unix = UNIX in words
    return networks


def peer_of(scope: Scope) -> str:
    """The address that a request came from: the proxy's, where there is one."""
    if PEER in scope:
        return str(scope[PEER])
    client = scope.get("client")
    return str(client[0]) if client and client[0] else UNIX


def check_prefix(given: str) -> str:
    """A path without a slash at its end. Raises InvalidOption."""
    prefix = given.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise InvalidOption(f"the prefix is a path such as /jobs, not {given!r}")
    return prefix


class BehindProxy:
    """Tells the page at which path its visitors see it, and keeps the address of the proxy.

    ``prefix`` is that path; the proxy passes it on, or ``strips`` it. Of a trusted proxy
    ``X-Forwarded-Prefix`` counts, too, which names what was stripped (Traefik).
    """

    def __init__(
        self, app: ASGIApp, trusted: Networks, prefix: str = "", *, strips: bool = False
    ) -> None:
        self._app = app
        self._trusted = trusted
        self._prefix = check_prefix(prefix)
        self._strips = strips

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it: ``path`` begins with ``root_path``."""
        if scope["type"] == "http":
            scope = {**scope, PEER: peer_of(scope)}
            prefix, is_stripped = self._prefix, self._strips
            if stripped := self._forwarded(scope):
                prefix, is_stripped = stripped, True
            path = scope["path"]
            if is_stripped or not prefix:
                path = prefix + path
            scope["path"], scope["root_path"] = path, prefix
            scope.pop("raw_path", None)
        await self._app(scope, receive, send)

    def _forwarded(self, scope: Scope) -> str:
        if scope[PEER] not in self._trusted:
            return ""
        found = [value for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
        try:
            return check_prefix(found[-1].decode()) if found else ""
        except (InvalidOption, UnicodeDecodeError):
            return ""
