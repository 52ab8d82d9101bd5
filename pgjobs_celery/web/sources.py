"""The databases that a page shows: those of Celery apps, or of URLs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..config import Options, read_options
from ..control.app import database_of
from ..control.audit import AuditLog
from ..control.jobs import Selection
from ..control.queues import Queues
from ..control.rights import RoleRights, look_at_rights
from ..db.database import Database, get_database
from ..db.dsn import describe, our_urls, parse_url
from ..errors import InvalidOption
from ..scopes.steady import monotonic

#: How many requests read or write at once; each has a connection of its own.
AT_ONCE = 4
#: And one for who looks for changes, while anybody watches.
WATCHING = 1

#: The paths of pages, which stand at their place in addresses.
RESERVED = frozenset({"static", "health"})

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

#: For how long it is taken for known what the database role may do, in seconds.
RIGHTS_AGE = 30.0

#: The privileges without which the page cannot be shown.
RIGHTS: dict[str, tuple[str, ...]] = dict.fromkeys(
    (
        "jobs", "nodes", "limits", "queues", "groups", "audit", "schedules", "totals", "lines",
        "fold", "history", "entries",
    ),
    ("SELECT",),
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One database with its jobs."""

    #: In addresses, and for people.
    name: str
    database: Database
    #: None where only a URL is known: what needs the program's tasks cannot be done then.
    app: Any = field(default=None, compare=False)
    _rights: list[tuple[float, RoleRights]] = field(default_factory=list, init=False, compare=False)

    @property
    def rights(self) -> RoleRights:
        """The rights of the database role; asked anew each half minute."""
        known = self._rights[-1:]
        if not known or monotonic() - known[0][0] > RIGHTS_AGE:
            known = [(monotonic(), look_at_rights(self.database))]
            self._rights[:] = known
        return known[0][1]

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


def read_sources(given: Any, schema: str = "") -> dict[str, Source]:
    """By name, from an app, a URL, or several of them by name. Raises InvalidOption.

    ``schema`` is that of URLs; an app names its own.
    """
    # One may be a dict itself, with its URL.
    named = given if isinstance(given, Mapping) and "url" not in given else {"jobs": given}
    if not named:
        raise InvalidOption("dashboard() needs a Celery app, a URL, or a dict of them")
    for name in named:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED:
            raise InvalidOption(
                f"the name of a source stands in addresses: letters, digits, '-', '_' and '.', "
                f"and not {' or '.join(sorted(RESERVED))}; not {name!r}"
            )
    return {name: _source(name, each, schema) for name, each in named.items()}


def _source(name: str, given: Any, schema: str) -> Source:
    if isinstance(given, Database):
        return Source(name, _own(given.conninfo, given.options))
    if isinstance(given, Mapping):
        known = {"schema": schema, **given} if schema else dict(given)
        return _from_url(name, known.pop("url", None), known)
    if isinstance(given, str):
        return _from_url(name, given, {"schema": schema} if schema else {})
    found = database_of(given)
    return Source(name, _own(found.conninfo, found.options), given)


def _from_url(name: str, url: Any, given: Mapping[str, Any]) -> Source:
    urls = our_urls(url) if isinstance(url, str) else []
    if not urls:
        raise InvalidOption(
            f"source {name!r} must be a Celery app, pgjobs://user@host:5432/database, or a dict of "
            "such a url and transport options"
        )
    options, unknown = read_options(given)
    if unknown:
        raise InvalidOption(f"source {name!r}: {unknown[0]}")
    return Source(name, _own(parse_url(urls[0]), options, [parse_url(url) for url in urls]))


def _own(conninfo: str, like: Options, alternates: Sequence[str] = ()) -> Database:
    """A Database of the page's own: its visitors take no connection from the program's tasks.

    A page waits for less long than it takes to ask whether a silent server is at work: it is not
    asked.
    """
    options = replace(like, pool_size=AT_ONCE + WATCHING, ask_after=math.inf)
    database = get_database(conninfo, options, alternates)
    # A role that may only read can show all; each action checks its own privileges.
    database.rights = RIGHTS
    return database
