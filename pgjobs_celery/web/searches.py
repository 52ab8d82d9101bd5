"""Read a search that a visitor has sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..control.search import InvalidSearch, Search, parse
from .job_view import parameters

if TYPE_CHECKING:
    from .visit import Visit


def read_search(visit: Visit, text: str) -> Search:
    """The search; what is hidden from visitors cannot be guessed at by it. Raises InvalidSearch."""
    search = parse(text)
    asked = {name: value for name, value in search.filters.given.items() if name in _HIDEABLE}
    if asked:
        _check(visit, asked, search.filters.given.get("task"))
    return search


#: The filters by values that may be hidden.
_HIDEABLE = ("args", "kwargs", "meta")


def _check(visit: Visit, asked: Mapping[str, Any], tasks: Collection[str] | None) -> None:
    """Raises InvalidSearch for a filter by something that is hidden in a job of these tasks."""
    redaction, app = visit.site.redaction, visit.source.app
    redactors = [redaction.of_any()] if tasks is None else [redaction.of(task) for task in tasks]
    known = tasks if tasks is not None else (app.tasks if app is not None else ())
    for name, value in asked.items():
        if redaction.hook is not None:
            raise InvalidSearch("a hook hides values on this page: they are not searched for", name)
        for redactor in redactors:
            if redactor.hides_all and name != "meta":
                raise InvalidSearch(f"all {name} of some tasks are hidden: {_REMEDY}", name)
            for key in _keys(value):
                if redactor.is_secret(key):
                    raise InvalidSearch(
                        f"{key!r} is hidden on this page, and not searched for", key
                    )
    if "args" in asked:
        for task in known:
            redactor = redaction.of(task)
            for parameter in parameters(app, task):
                if redactor.is_secret(parameter):
                    raise InvalidSearch(f"{parameter!r} of {task} is hidden: {_REMEDY}", "args")


_REMEDY = "name tasks that have nothing to hide, with task:NAME"


def _keys(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return {str(key) for key in value}.union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()
