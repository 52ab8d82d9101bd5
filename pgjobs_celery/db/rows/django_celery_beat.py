"""The tables of django-celery-beat, as it leaves them; nothing is written there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import errors as pg

from ...errors import PgJobsError
from ..dsn import describe
from ..migrations.migrate import session
from ..sql import statement


@dataclass(frozen=True)
class DjangoEntry:
    """A PeriodicTask with its schedule, which is one of four."""

    name: str
    #: The columns of its row that are not times.
    columns: dict[str, Any]
    interval: dict[str, Any] | None
    crontab: dict[str, Any] | None
    solar: dict[str, Any] | None
    #: Without a zone where Django has USE_TZ off, as the others.
    clocked_time: datetime | None
    expires: datetime | None
    start_time: datetime | None
    last_run_at: datetime | None
    date_changed: datetime | None
    #: Times that Python cannot hold (infinity, before Christ), as they are written; None above.
    unreadable: Mapping[str, str] = field(default_factory=dict)


def read_django_entries(conninfo: str) -> list[DjangoEntry]:
    """All of them, by name. Raises PgJobsError where these tables do not exist."""
    with session(conninfo) as connection:
        try:
            rows = connection.execute(statement("list_django_entries", "")).fetchall()
        except (pg.UndefinedTable, pg.UndefinedColumn) as error:
            raise PgJobsError(
                f"there are no tables of django-celery-beat 2.0 or newer at {describe(conninfo)} "
                f"({error.diag.message_primary}): name their database with --from"
            ) from None
    return [DjangoEntry(*row) for row in rows]
