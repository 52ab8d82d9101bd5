"""What the fixtures are made of: which app is tested, where its rows are, what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app
from celery.app.utils import find_app as find_app_by_name

from ..errors import InvalidOption
from .helpers import Helpers
from .modes import testing
from .stage import Place

#: How many jobs a failure shows.
MOST_SHOWN = 50
#: What a marker may say.
KEYWORDS = {"mode", "app", "propagate"}
#: Where Celery has a fixture of this name itself, which nobody has asked for.
CELERYS = "celery.contrib.pytest"


def marked(request: Any) -> dict[str, Any]:
    """What the test's marker says. Raises InvalidOption for what it cannot."""
    marker = request.node.get_closest_marker("pgjobs")
    if marker is None:
        return {}
    if len(marker.args) > 1 or marker.kwargs.keys() - KEYWORDS:
        raise InvalidOption(
            "the marker pgjobs takes mode, app and propagate, not "
            f"{marker.args!r}, {marker.kwargs!r}"
        )
    return {**dict(zip(("mode",), marker.args, strict=False)), **marker.kwargs}


def mode_of(request: Any) -> str:
    """The mode that the test's marker says."""
    return str(marked(request).get("mode", "manual"))


def find_app(request: Any) -> Any:
    """The app under test."""
    app = marked(request).get("app") or request.config.getini("pgjobs_app")
    fixture = _own_fixture(request)
    if "celery_app" in request.fixturenames or (fixture and not app):
        return request.getfixturevalue("celery_app")
    if app:
        return find_app_by_name(app) if isinstance(app, str) else app
    return current_app._get_current_object()


def _own_fixture(request: Any) -> bool:
    """True where the tests have a fixture ``celery_app`` of their own."""
    found = request._fixturemanager.getfixturedefs("celery_app", request.node) or ()
    return any(each.func.__module__ != CELERYS for each in found)


@contextmanager
def provide(request: Any) -> Iterator[Helpers]:
    """The helpers, in a block of the mode that is asked for."""
    said = marked(request)
    mode, propagate = said.get("mode", "manual"), said.get("propagate", False)
    with testing(find_app(request), mode, propagate=propagate) as block:
        yield Helpers(block)


@contextmanager
def provide_real(request: Any, url: str) -> Iterator[Helpers]:
    """The helpers in mode real; the app's broker and backend are this database for now."""
    from ..db.databases import empty_database
    from ..node import close_nodes

    app = find_app(request)
    close_nodes()
    empty_database(url)
    with Moved(app, url) as block:
        yield Helpers(block)


class Moved(testing):
    """Mode real, at a URL: the app's broker and backend are there, whatever its settings say."""

    def __init__(self, app: Any, url: str) -> None:
        super().__init__(app, "real")
        self._place = Place.at(url)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        assert self._place is not None
        self._place.close()


def describe(helpers: Helpers) -> str:
    """What was enqueued, a line for each job, for a test that has failed."""
    try:
        jobs = helpers.block.published()
    except Exception as error:  # the test has failed; there may be no database any more
        return f"cannot be told: {error}"
    lines = [_line(job) for job in jobs[:MOST_SHOWN]]
    if len(jobs) > MOST_SHOWN:
        lines.append(f"... and {len(jobs) - MOST_SHOWN:,} more")
    return "\n".join(lines) or "nothing"


def _line(job: Any) -> str:
    said = [repr(each) for each in job.args or ()]
    said += [f"{name}={value!r}" for name, value in (job.kwargs or {}).items()]
    return f"{job.task}({', '.join(said):.200}) in {job.queue}: {job.state}"
