"""The database behind a Celery app."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from celery import _state

from ..db.database import Database
from ..errors import PgJobsError


def find_app() -> Any:
    """The Celery app of this process; None without one.

    ``current_app`` would make one, and take the place of the project's own.
    """
    return _state._tls.current_app or _state.default_app


_program: weakref.ref[Any] | None = None


def program_app() -> Any:
    """The Celery app of this program: that of this thread, or one that another thread has.

    Celery knows an app as the current one in the thread only that has made it.
    """
    global _program
    app = _state._tls.current_app
    if app is not None:
        if _program is None or _program() is not app:
            _program = weakref.ref(app)
        return app
    seen = _program() if _program is not None else None
    return seen if seen is not None else _state.default_app


def note_app(app: Any) -> None:
    """An app has tasks: it is the program's if no thread has made it its current app."""
    global _program
    if _program is None or _program() is None:
        _program = weakref.ref(app)


def forget_app() -> None:
    """Find the program's app anew."""
    global _program
    _program = None


def database_of(app: Any) -> Database:
    """The database of the app's jobs; this does not connect yet."""
    # A test without a server must not touch the database of the settings.
    is_captured = getattr(app._backend_cache, "stands_in", False)
    for place in () if is_captured else (app.connection_for_write().transport, app.backend):
        database = getattr(place, "database", None)
        if isinstance(database, Database):
            return database
    if is_captured:
        raise PgJobsError(
            f"what app {app.main!r} publishes is captured here, and has no rows: all_enqueued(), "
            'or testing(app, "real")'
        )
    raise PgJobsError(
        f"app {app.main!r} has its jobs elsewhere: neither broker_url nor result_backend is "
        "pgjobs://user@host:5432/database"
    )


def captured_signals(app: Any) -> Callable[[Any, bool], int] | None:
    """Takes signals to jobs that a test has captured, of this app; None for jobs in a database."""
    backend = app._backend_cache
    if not getattr(backend, "stands_in", False):
        return None
    send: Callable[[Any, bool], int] = backend.send_signals
    return send
