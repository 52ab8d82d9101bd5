"""What the fixtures are made of: which app is tested, where its rows are, what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app
from celery.app.utils import find_app as find_app_by_name
from kombu import pools

from ..errors import InvalidOption
from .helpers import Helpers
from .modes import testing

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
    with moved(app, url), testing(app, "real") as block:
        yield Helpers(block)


@contextmanager
def moved(app: Any, url: str) -> Iterator[None]:
    """In this block the app's broker and backend are at this URL."""
    conf, amqp = app.conf, app.amqp
    changes = dict(conf.changes)
    kept = app._pool, app._backend_cache, amqp._producer_pool
    local = getattr(app._local, "backend", None)
    for name in ("broker_url", "broker_read_url", "broker_write_url", "result_backend"):
        conf[name] = url
    conf.task_always_eager = False
    app._pool = app._backend_cache = amqp._producer_pool = None
    app._local.backend = None
    try:
        yield
    finally:
        for each in (app._backend_cache, getattr(app._local, "backend", None)):
            if close := getattr(each, "close", None):
                close()
        used = app._pool
        if used is not None:
            close_pool(used)
        conf.changes.clear()
        conf.changes.update(changes)
        app._pool, app._backend_cache, amqp._producer_pool = kept
        if used is not None and app._pool is used:
            app._pool = amqp._producer_pool = None
        app._local.backend = local


def close_pool(pool: Any) -> None:
    """Close a pool of connections, and have kombu forget it: the next test is on the same URL."""
    pool.force_close_all()
    # By identity: the key is made of options, which a connection that was open has changed.
    for group in (pools.connections, pools.producers):
        for key, each in list(group.items()):
            if getattr(each, "connections", each) is pool:
                group.pop(key)


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
