"""The entries of a source: with its app all can be done, without it they can be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery

from ..beat.schedules import Schedules
from ..db.rows.schedules import list_apps
from ..errors import PgJobsError

if TYPE_CHECKING:
    from ..beat.schedule import Schedule
    from ..db.database import Database
    from .visit import Visit

#: The words of a page that cannot do something.
NO_APP = (
    "This page knows the database only, and not the program: entries can be looked at, paused and "
    "deleted. To run, resume, change and add them, start the page as celery -A proj pgjobs web."
)
#: How many tasks a form suggests.
MOST_TASKS = 500


@dataclass
class Entries:
    """The entries of an app, or those of that name in a database."""

    database: Database
    #: None where only the database is known.
    app: Any
    app_name: str

    @cached_property
    def _rows(self) -> Schedules:
        # The stand-in has the name, publishes nothing, and takes no other's place.
        stand_in = self.app or Celery(self.app_name, set_as_current=False)
        return Schedules(stand_in, self.database)

    @cached_property
    def now(self) -> datetime:
        """The time that beats use."""
        return self._rows.now().astimezone(timezone.utc)

    @property
    def zone(self) -> tzinfo:
        """That of the app; UTC where it is not known."""
        zone: tzinfo = timezone.utc if self.app is None else self.app.timezone
        return zone

    @property
    def tasks(self) -> list[str]:
        """The program's tasks, as suggestions."""
        known = () if self.app is None else self.app.tasks
        return sorted(name for name in known if not name.startswith("celery."))[:MOST_TASKS]

    def names(self) -> list[str]:
        """The names of all."""
        return self._rows.names()

    def select(self, names: list[str]) -> list[Schedule]:
        """Those of these names."""
        return self._rows.select(names)

    def get(self, name: str) -> Schedule | None:
        """The entry of a name; None if it does not exist."""
        return self._rows.get(name)

    def control(self, *, publishes: bool = False) -> Schedules:
        """For what needs the program: its tasks, or its time zone. Raises PgJobsError without.

        What ``publishes`` goes by the program's own connections: a job and the record of it are one
        transaction.
        """
        if self.app is None:
            raise PgJobsError(NO_APP)
        return Schedules(self.app) if publishes else self._rows

    def rows_only(self) -> Schedules:
        """For what changes a row, and needs nothing of the program."""
        return self._rows


def entries_of(visit: Visit) -> Entries:
    """The entries of the visit's source; without an app those of the name in the address."""
    source = visit.source
    if source.app is not None:
        return Entries(source.database, source.app, source.app.main or "")
    given = visit.query.get("app", visit.form.get("app"))
    if given is None:
        apps = list_apps(source.database)
        given = apps[0] if apps else ""
    return Entries(source.database, None, str(given))
