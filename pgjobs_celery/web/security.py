"""What keeps a visitor's browser from acting for somebody else."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: The cookie and the field of a form that must agree.
CSRF = "pgjobs_csrf"

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


def secure(response: Response) -> Response:
    """The answer with the headers of all; rows change, so that nothing of them is kept."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    return response


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
    if site is not None and site not in ("same-origin", "none") and not is_trusted:
        return "the form came from another site"
    if site is None and origin is not None and not is_trusted:
        host = urlsplit(origin).netloc
        if host != request.headers.get("host"):
            return "the form came from another address: name it in trusted_origins"
    kept = request.cookies.get(CSRF, "")
    if len(kept) < 32 or not hmac.compare_digest(kept.encode(), sent.encode()):
        return "the form has no valid token: load the page again"
    return None
