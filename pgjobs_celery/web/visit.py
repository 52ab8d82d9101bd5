"""A request, as the handlers of the pages see it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from .roles import PERMISSIONS, User
from .routes import POLLS, Page
from .security import token_of
from .words import copied

if TYPE_CHECKING:
    from ..control.rights import RoleRights
    from .site import Site
    from .sources import Source

#: The cookie with what an action did, for the page after it.
FLASH = "pgjobs_flash"
#: The characters that stand in a path as they are.
PATH = "/~@:+"
#: A cookie has to stay below 4 KiB.
LONGEST_FLASH = 600


@dataclass
class Visit:
    """One request: who asks, of which source, for what."""

    request: Request
    site: Site
    source: Source
    user: User
    #: The fields of the form; empty for a page.
    form: FormData = field(default_factory=FormData)
    #: The name of the page.
    page: str = ""
    #: The rights of the database role; None until it is known.
    rights: RoleRights | None = None

    @property
    def query(self) -> QueryParams:
        """The words of the address after the question mark."""
        return self.request.query_params

    @cached_property
    def now(self) -> datetime:
        """When the request came."""
        return datetime.now(timezone.utc)

    @cached_property
    def token(self) -> str:
        """The token that a form must send."""
        return token_of(self.request)

    @cached_property
    def base(self) -> str:
        """The path that the page was mounted at, as addresses have it; nothing at the root."""
        return quote(str(self.request.scope.get("root_path", "")).rstrip("/"), safe=PATH)

    def url(self, page: str, **query: Any) -> str:
        """The address of a page; None leaves a word out, a list repeats it.

        Names stand behind the question mark, whatever they contain: proxies change paths.
        """
        return self._to(self.site.paths[page], query)

    def here(self, **query: Any) -> str:
        """The address of this page with some words changed; None takes one away."""
        now: dict[str, Any] = {
            name: self.query.getlist(name) for name in self.query if name not in query
        }
        return self._to(self.site.paths[self.page], {**now, **query})

    def _to(self, path: str, query: Mapping[str, Any]) -> str:
        known = {name: value for name, value in query.items() if value not in (None, "", [], ())}
        words = urlencode(known, doseq=True)
        place = f"{self.base}{self.site.prefix(self.source)}{path}"
        return f"{place}?{words}" if words else place

    def static(self, name: str) -> str:
        """The address of a file of ours; another one after each change of it."""
        return f"{self.base}/static/{name}?v={self.site.version(name)}"

    @property
    def polls(self) -> bool:
        """True where the server has no room for streams: the page asks every few seconds."""
        return bool(self.request.scope.get(POLLS))

    def may(self, action: str) -> bool:
        """True if the visitor may do it, and the database role, too."""
        return self.why_not(action) is None

    def why_not(self, action: str) -> str | None:
        """The reason why the visitor may not do it here; None if they may."""
        refused = self.rights.refused if self.rights is not None else {}
        return self.site.rules.refusal(self.user, action) or refused.get(action)

    @property
    def notice(self) -> str:
        """The reason why nobody can change anything here, for those who might; or empty."""
        notice = self.rights.notice if self.rights is not None else ""
        is_able = notice and any(
            not self.site.rules.refusal(self.user, each) for each in PERMISSIONS
        )
        return notice if is_able else ""

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page from a template."""
        text = self.site.templates.get_template(template).render(
            visit=self,
            url=self.url,
            here=self.here,
            static=self.static,
            may=self.may,
            why_not=self.why_not,
            now=self.now,
            flash=self.flash,
            **values,
        )
        return HTMLResponse(text, status)

    def redirect(self, to: str, text: str, *, cli: str = "", is_error: bool = False) -> Response:
        """On to another page, which tells once what was done, and the command that equals it."""
        response = RedirectResponse(to, 303)
        told = {"text": shorten(text), "cli": shorten(copied(cli)), "is_error": is_error}
        word = base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
        response.set_cookie(
            FLASH,
            word,
            max_age=60,
            path=self.base or "/",
            httponly=True,
            samesite="strict",
            secure=self.request.url.scheme == "https",
        )
        return response

    def back(self, otherwise: str = "overview") -> str:
        """The page that the form stood on, as its field ``next`` says: always one of ours."""
        given = str(self.form.get("next", ""))
        parts = urlsplit(given if given.isprintable() and "\\" not in given else "")
        place = f"{self.base}{self.site.prefix(self.source)}"
        pages = {place + each.path for each in self.site.routes if isinstance(each, Page)}
        # A browser takes whatever begins with two slashes for a host.
        is_path = not parts.scheme and not parts.netloc and not given.lstrip().startswith("//")
        is_ours = is_path and parts.path in pages
        return given if is_ours else self.url(otherwise)

    @cached_property
    def flash(self) -> dict[str, Any] | None:
        """The outcome of the last action, to be told once."""
        try:
            told = json.loads(base64.urlsafe_b64decode(self.request.cookies[FLASH]))
            return {
                "text": str(told["text"]),
                "cli": str(told["cli"]),
                "is_error": bool(told["is_error"]),
            }
        except (KeyError, ValueError, TypeError):
            return None


def shorten(text: str) -> str:
    """A text that fits into the cookie."""
    return text if len(text) <= LONGEST_FLASH else f"{text[:LONGEST_FLASH]}…"
