"""Find the pages as a visitor does: by their links."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from urllib.parse import parse_qsl, urlsplit

from pgjobs_celery.web.pages import ROUTES
from pgjobs_celery.web.routes import Page

LINK = re.compile(r'<a\b[^>]*?\bhref="([^"#]+)')

#: The pages by their paths.
NAMES = {route.path: route.name for route in ROUTES if isinstance(route, Page)}


def crawl(get: Callable[[str], str], *starts: str, each: int = 1) -> list[str]:
    """Addresses of all pages that links lead to; ``each`` of a page with different words.

    ``get`` returns the text of a page.
    """
    found: list[str] = []
    known: dict[str, list[frozenset[str]]] = {}
    ahead = ["/", *starts]
    while ahead:
        link = ahead.pop(0)
        parts = urlsplit(link)
        kinds = known.setdefault(parts.path, [])
        words = frozenset(name for name, _ in parse_qsl(parts.query))
        if parts.path not in NAMES or parts.netloc or words in kinds:
            continue
        if len(kinds) >= each and link not in starts:
            continue
        kinds.append(words)
        found.append(link)
        ahead += [unescape(each) for each in LINK.findall(get(link))]
    return found


def name_of(address: str) -> str:
    """The name of the page at this address."""
    return NAMES[urlsplit(address).path]
