"""Databases that Django's settings name, as ``pgjobs+django://default`` does.

An alias is looked up when a connection is opened, and not when the URL is read: the
test runner gives it another database, and an app that was made before must not reach the real one.
"""

from __future__ import annotations

import os
import re
import sys
import weakref
from collections.abc import Callable, Hashable
from typing import Any

from psycopg.conninfo import make_conninfo

from ..errors import InvalidURL
from .dsn import PARAMETERS, alias_of


def resolve(conninfo: str) -> str:
    """The libpq connection string; of an alias, what Django's settings say now.

    Django's own ``OPTIONS`` (``pool``, ``isolation_level``, ...) are left out.
    """
    alias = alias_of(conninfo)
    if alias is None:
        return conninfo
    connection = find_connection(alias)
    from django.core.exceptions import ImproperlyConfigured

    try:
        given = connection.get_connection_params()
    except ImproperlyConfigured as error:
        raise InvalidURL(f"pgjobs+django://{alias}: {error}") from error
    params = {
        name: value for name, value in given.items() if name in PARAMETERS and value is not None
    }
    if role := connection.settings_dict["OPTIONS"].get("assume_role"):
        # With the session's start, and not by a statement: it holds behind a pooler, too.
        escaped = re.sub(r"([\\ ])", r"\\\1", role)
        params["options"] = f"{params.get('options', '')} -c role={escaped}".lstrip()
    return make_conninfo(**params)


def home_of(conninfo: str) -> Hashable:
    """A value that changes when an open connection leads elsewhere by now."""
    alias = alias_of(conninfo)
    if alias is None:
        return conninfo
    settings = find_connection(alias).settings_dict
    return (alias, *(settings[name] for name in ("NAME", "HOST", "PORT", "USER")))


def find_connection(alias: str) -> Any:
    """Django's connection of this thread. Raises InvalidURL if it cannot have our tables."""
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.db import connections
    except ImportError as error:
        raise InvalidURL(
            f"pgjobs+django://{alias} needs Django, which cannot be imported: {error}"
        ) from error
    try:
        connection = connections[alias]
    except ImproperlyConfigured as error:
        raise InvalidURL(f"pgjobs+django://{alias}: {error}") from error
    except connections.exception_class:
        raise InvalidURL(
            f"there is no database {alias!r} in Django's settings; "
            f"DATABASES has {', '.join(connections)}"
        ) from None
    if connection.vendor != "postgresql":
        raise InvalidURL(
            f"the database {alias!r} in Django's settings is not PostgreSQL but has the ENGINE "
            f"{connection.settings_dict['ENGINE']!r}"
        )
    return connection


def open_connections() -> list[Any]:
    """Django's connections to PostgreSQL that this thread has used."""
    if "django.db" not in sys.modules:
        return []
    from django.conf import settings
    from django.db import connections

    if not settings.configured:
        return []
    used = connections.all(initialized_only=True)
    return [connection for connection in used if connection.vendor == "postgresql"]


#: Connections that Django had open when this process was forked: the server answers the parent.
_inherited: weakref.WeakSet[Any] = weakref.WeakSet()


def is_inherited(connection: Any) -> bool:
    """True if Django's connection is still the one of the process that this was forked from."""
    return bool(_inherited) and connection.connection in _inherited


def _note_inherited() -> None:
    for connection in open_connections():
        if connection.connection is not None:
            _inherited.add(connection.connection)


os.register_at_fork(after_in_child=_note_inherited)


def before_maintenance(close: Callable[[], None]) -> None:
    """Have ``close`` called when Django creates, copies or drops a database, as for its tests.

    The server can do none of that while another session is connected. Django goes over a
    connection to another database for it, which it announces as it does each.
    """
    from django.db.backends.base.base import NO_DB_ALIAS
    from django.db.backends.signals import connection_created

    def on_connection_created(connection: Any, **_: Any) -> None:
        if connection.alias == NO_DB_ALIAS:
            close()

    connection_created.connect(
        on_connection_created, weak=False, dispatch_uid="pgjobs-before-maintenance"
    )
