"""The databases that a page shows: those of Celery apps, or of URLs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..config import read_options
from ..control.app import database_of
from ..control.audit import AuditLog
from ..control.jobs import Selection
from ..control.queues import Queues
from ..db.database import Database, get_database
from ..db.dsn import describe, our_urls, parse_url
from ..errors import InvalidOption

#: How many requests read or write at once; each has a connection of its own.
AT_ONCE = 4
#: And one for who looks for changes, while anybody watches.
WATCHING = 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

#: The privileges without which the page cannot be shown.
RIGHTS: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("jobs", "nodes", "limits", "queues", "groups", "audit", "schedules", "totals", "lines"),
    ("SELECT",),
)


@dataclass(frozen=True)
class Source:
    """One database with its jobs."""

    #: In addresses, and for people.
    name: str
    database: Database
    #: None where only a URL is known: what needs the program's tasks cannot be done then.
    app: Any = field(default=None, compare=False)

    @property
    def place(self) -> str:
        """Server, database and schema, without a password."""
        return f"{describe(self.database.conninfo)}, schema {self.database.schema}"

    @property
    def jobs(self) -> Selection:
        """All jobs."""
        if self.app is None:
            return Selection(self.database)
        return Selection(self.database, zone=lambda: self.app.timezone, app=self.app)

    @property
    def queues(self) -> Queues:
        """The queues, to pause and limit."""
        return Queues(self.database, self.app)

    @property
    def audit(self) -> AuditLog:
        """The record of who did what."""
        return AuditLog(self.database)


def read_sources(given: Any) -> dict[str, Source]:
    """By name, from an app, a URL, or several of them by name. Raises InvalidOption."""
    named = given if isinstance(given, Mapping) else {"jobs": given}
    if not named:
        raise InvalidOption("dashboard() needs a Celery app, a URL, or a dict of them")
    for name in named:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidOption(
                f"the name of a source stands in addresses: letters, digits, '-', '_' and '.', "
                f"not {name!r}"
            )
    return {name: _source(name, each) for name, each in named.items()}


def _source(name: str, given: Any) -> Source:
    if isinstance(given, Database):
        return Source(name, _own(given.conninfo, given))
    if isinstance(given, str):
        urls = our_urls(given)
        if not urls:
            raise InvalidOption(
                f"source {name!r} must be a Celery app or pgjobs://user@host:5432/database"
            )
        options, _ = read_options({})
        database = get_database(parse_url(urls[0]), options, [parse_url(url) for url in urls])
        return Source(name, _own(database.conninfo, database))
    found = database_of(given)
    return Source(name, _own(found.conninfo, found), given)


def _own(conninfo: str, like: Database) -> Database:
    """A Database of the page's own: its visitors take no connection from the program's tasks."""
    database = get_database(conninfo, replace(like.options, pool_size=AT_ONCE + WATCHING))
    if database is not like:
        # A role that may only read can show all; each action checks its own privileges.
        database.rights = RIGHTS
    return database
