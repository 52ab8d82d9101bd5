"""Logins: everybody alike, a password, or what a proxy says; and hooks of the program's own.

A login is called with Starlette's request, and returns a :class:`User`, an answer that asks for
one (a redirect to a form, a 401), or None, which turns the visitor away.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable, iscoroutinefunction
from typing import TypeAlias

import anyio
import anyio.lowlevel
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..errors import InvalidOption
from ..printable import guarded
from .proxies import peer_of, read_networks
from .roles import Role, User

logger = guarded(logging.getLogger(__name__))

Answer: TypeAlias = "User | Response | None"
#: A hook; one that is not async is called in a thread, so that it may ask a database.
Login: TypeAlias = "Callable[[Request], Answer | Awaitable[Answer]]"

#: The cost of a password: 16 MiB and some 50 ms. OWASP's cheat sheet has it so for scrypt.
_N, _R, _P = 2**14, 8, 5
#: How many passwords are tried or wait for it, at most: a second or two of work.
MOST_TRIED = 50
#: The memory that OpenSSL may take for it, in bytes.
_MEMORY = 64 * 1024 * 1024
_KIND = "scrypt"


def everybody(role: str | Role = Role.VIEWER, name: str = "") -> Login:
    """The login of a page without one: each visitor has this role."""
    user = User(name or f"web visitor ({Role.of(role)})", role)

    async def login(request: Request) -> Answer:
        return user

    return login


def basic_auth(
    passwords: Mapping[str, str],
    *,
    roles: Mapping[str, str | Role] | None = None,
    role: str | Role = Role.VIEWER,
    realm: str = "jobs",
) -> Login:
    """Names and passwords by HTTP's basic authentication, for the simple case; over TLS.

    ``passwords`` has a password for each name, or better what :func:`hash_password` makes of it;
    ``roles`` the role of a name, ``role`` that of all others. Raises InvalidOption.

        dashboard(app, login=basic_auth({"alice": "scrypt$..."}, roles={"alice": "admin"}))
    """
    if not passwords:
        raise InvalidOption("basic_auth() needs the password of at least one user")
    users = {name: User(name, (roles or {}).get(name, role)) for name in passwords}
    for name in roles or {}:
        if name not in users:
            raise InvalidOption(f"user {name!r} has a role, and no password")
    hashes = {name: _as_hash(name, given) for name, given in passwords.items()}
    stand_in = hash_password(secrets.token_urlsafe())
    # Each page asks: a password that was right is known again without the cost of scrypt.
    key = secrets.token_bytes(32)
    known: dict[str, bytes] = {}
    # Wrong ones are tried two at a time, whoever sends how many.
    limiter = _Limiter(2)
    places = threading.Semaphore(MOST_TRIED)

    async def login(request: Request) -> Answer:
        name, password = _credentials(request.headers.get("authorization", ""))
        if name is None:
            return _ask(realm)
        digest = hmac.digest(key, f"{name}\0{password}".encode(), "sha256")
        if name in known and hmac.compare_digest(known[name], digest):
            return users[name]
        if not places.acquire(blocking=False):
            return _have_wait()
        try:
            # As long for a name that is not there.
            is_right = await limiter.run(is_password, password, hashes.get(name, stand_in))
        finally:
            places.release()
        if not is_right or name not in users:
            logger.warning("login of %r from %s refused", name[:100], peer_of(request.scope))
            return _ask(realm)
        known[name] = digest
        return users[name]

    return login


def hash_password(password: str) -> str:
    """The text to keep of a password: ``scrypt$16384$8$5$salt$key``."""
    salt = secrets.token_bytes(16)
    key = _derive(password, salt, _N, _R, _P)
    words = (base64.b64encode(each).decode() for each in (salt, key))
    return "$".join((_KIND, str(_N), str(_R), str(_P), *words))


def is_password(password: str, hashed: str) -> bool:
    """True if :func:`hash_password` has made this of the password."""
    _, n, r, p, salt, key = hashed.split("$")
    found = _derive(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(key))


def trusted_header(
    header: str = "X-Forwarded-User",
    *,
    trust: str | Sequence[str] = ("127.0.0.1", "::1"),
    roles: Mapping[str, str | Role] | None = None,
    role: str | Role = Role.VIEWER,
) -> Login:
    """The user that a proxy names in a header; a request that did not come from it is refused.

    ``trust`` are the addresses or networks of the proxy (``10.0.0.0/8``; ``unix`` for a socket). It
    has to remove the header where a visitor has sent it. ``roles`` has the role of a name, ``role``
    is that of all others. Raises InvalidOption.
    """
    networks = read_networks(trust)
    users = {name: User(name, given) for name, given in (roles or {}).items()}
    others = Role.of(role)

    async def login(request: Request) -> Answer:
        names = request.headers.getlist(header)
        if peer_of(request.scope) not in networks:
            logger.warning(
                "%s is not trusted to name a user: a request from there was refused",
                peer_of(request.scope),
            )
            return None
        if len(names) != 1 or not names[0].strip():
            return None
        name = _as_text(names[0].strip())
        try:
            return users.get(name) or User(name, others)
        except InvalidOption as error:
            logger.warning("a request was refused: %s", error)
            return None

    return login


async def ask(login: Login, request: Request) -> Answer:
    """The answer of a hook, whether it is async or not."""
    if iscoroutinefunction(login) or iscoroutinefunction(type(login).__call__):
        found = login(request)
    else:
        found = await anyio.to_thread.run_sync(login, request)
    answer = await found if isawaitable(found) else found
    if answer is not None and not isinstance(answer, (User, Response)):
        raise InvalidOption(
            f"the login returned {type(answer).__name__}: a User, a Response or None is needed"
        )
    return answer


class _Limiter:
    """So many threads at once, in whichever event loop."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._limiters = anyio.lowlevel.RunVar[anyio.CapacityLimiter](f"pgjobs {id(self)}")

    async def run(self, function: Callable[..., bool], *args: object) -> bool:
        limiter = self._limiters.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(self._threads)
            self._limiters.set(limiter)
        return await anyio.to_thread.run_sync(function, *args, limiter=limiter)


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    given = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(given, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)


def _as_hash(name: str, given: str) -> str:
    if not given:
        raise InvalidOption(f"user {name!r} has an empty password")
    if not given.startswith(f"{_KIND}$"):
        return hash_password(given)
    try:
        is_password("", given)
    except (ValueError, binascii.Error):
        raise InvalidOption(
            f"the hash of the password of {name!r} cannot be read: it is one line of "
            "hash_password()"
        ) from None
    return given


def _credentials(header: str) -> tuple[str | None, str]:
    kind, _, word = header.partition(" ")
    if kind.lower() != "basic":
        return None, ""
    try:
        text = base64.b64decode(word.strip(), validate=True).decode()
    except ValueError:
        return None, ""
    name, colon, password = text.partition(":")
    return (name, password) if colon else (None, "")


def _ask(realm: str) -> Response:
    headers = {"WWW-Authenticate": f'Basic realm="{realm}", charset="UTF-8"'}
    return PlainTextResponse("Name and password are needed.\n", 401, headers)


def _have_wait() -> Response:
    text = "Too many passwords are tried at once: try again in a few seconds.\n"
    return PlainTextResponse(text, 503, {"Retry-After": "5"})


def _as_text(header: str) -> str:
    # Servers read headers as latin-1; proxies send UTF-8.
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
