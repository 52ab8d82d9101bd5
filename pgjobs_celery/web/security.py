"""Keep a visitor's browser from acting for somebody else."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import FormData, MutableHeaders, UploadFile

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The cookie and the field of a form that must agree.
CSRF = "pgjobs_csrf"

#: How large the body of a form may be, in bytes.
LARGEST_FORM = 2 * 1024 * 1024
#: How many fields it may have.
MOST_FIELDS = 10_000

#: For each answer. Scripts and styles are files of ours: none stands within a page.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Secured:
    """Puts the headers on every answer, errors and files included: middleware of the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                put_headers(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_secured)


def put_headers(headers: MutableHeaders) -> None:
    """The headers of all answers; rows change, so that nothing of them is kept."""
    for name, value in HEADERS.items():
        headers[name] = value
    headers.setdefault("Cache-Control", "no-store")


class Unreadable(Exception):
    """A form that is not taken: the status of the answer, and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_form(request: Request) -> FormData:
    """The fields of a form as browsers send it. Raises Unreadable.

    Not Starlette's, which reads files as well, in any encoding that the request names, and has no
    limit of the whole.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", ""):
        raise Unreadable(415, f"a form comes as application/x-www-form-urlencoded, not as {kind}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise Unreadable(413, f"a form may have {LARGEST_FORM:,} bytes")
    try:
        fields = parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise Unreadable(413, f"a form may have {MOST_FIELDS:,} fields") from None
    return FormData(list[tuple[str, "UploadFile | str"]](fields))


def is_known_host(given: str, known: Collection[str]) -> bool:
    """True if the ``Host`` of a request is one of these names, on whatever port; all if empty.

    A page without a login must not be shown under any other name: a site that has its own name
    lead to 127.0.0.1 would be a page of the same origin to the visitor's browser.
    """
    name, colon, port = given.rpartition(":")
    host = name if colon and port.isdigit() else given
    return not known or host.strip("[]").lower() in known


def token_of(request: Request) -> str:
    """The visitor's token; a new one where the browser has not sent any."""
    given = request.cookies.get(CSRF, "")
    return given if len(given) >= 32 else secrets.token_urlsafe(32)


def keep_token(request: Request, response: Response, token: str, path: str) -> None:
    """Let the browser keep the token, and send it with nothing that comes from elsewhere."""
    if request.cookies.get(CSRF) != token:
        response.set_cookie(
            CSRF,
            token,
            path=path or "/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )


def forgery(request: Request, sent: str, trusted: Collection[str] = ()) -> str | None:
    """The reason why a request that acts may not be the visitor's own; None if it is.

    The double-submit cookie of OWASP's cheat sheet, and the word of the browser on where the form
    stood: ``Sec-Fetch-Site``, or ``Origin`` from one that does not send that.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    is_trusted = origin is not None and origin in trusted
    if site is not None and site != "same-origin" and not is_trusted:
        return "the form came from another site"
    if site is None and origin is not None and not is_trusted:
        host = urlsplit(origin).netloc
        if host != request.headers.get("host"):
            return "the form came from another address: name it in trusted_origins"
    kept = request.cookies.get(CSRF, "")
    # Encoded, for it takes only ASCII as text.
    if len(kept) < 32 or not hmac.compare_digest(kept.encode("utf-8", "replace"), sent.encode()):
        return "the form has no valid token: load the page again"
    return None
