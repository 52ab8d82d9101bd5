"""Read a search that a visitor has sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..control.search import InvalidSearch, Search, parse

if TYPE_CHECKING:
    from .visit import Visit


def read_search(visit: Visit, text: str) -> Search:
    """The search; what is hidden from visitors cannot be guessed at by it. Raises InvalidSearch."""
    search = parse(text)
    redactor = visit.site.redaction.of("")
    for name in ("kwargs", "meta"):
        for key in _keys(search.filters.given.get(name, {})):
            if redactor.is_secret(key):
                raise InvalidSearch(f"{key!r} is hidden on this page, and not searched for", key)
    return search


def _keys(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return {str(key) for key in value}.union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()
