"""The workers that live while a schema is changed beneath them; only reads."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import errors as pg

from ..sql import in_schema
from .files import Step
from .versions import Connection, fetch

#: How many are named.
FEW = 10

_LIVE = """
SELECT n.name, n.version
FROM pgjobs.nodes AS n
WHERE n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second'
ORDER BY n.name
"""


def broken_by(connection: Connection, schema: str, steps: Sequence[Step]) -> list[str]:
    """The live workers that cannot work after these steps, each with its release.

    Those are all of them: a worker begins only where every migration of its release is applied, so
    it does not know a breaking one that is still to come, and does know one that is taken back.
    """
    if not any(step.direction == "down" or step.migration.breaking for step in steps):
        return []
    try:
        with connection.transaction():
            rows = fetch(connection, in_schema(_LIVE, schema))
    except (pg.UndefinedTable, pg.UndefinedColumn, pg.InsufficientPrivilege):
        return []  # the tables are not made yet, or their owner keeps them to itself
    return [f"{name} ({version})" for name, version in rows]


def warning(workers: Sequence[str]) -> str:
    """What to do about them, in one line."""
    named = ", ".join(workers[:FEW]) + (f" and {len(workers) - FEW} more" if workers[FEW:] else "")
    return (
        f"these workers are alive and cannot work with the new schema: {named}. Stop them before, "
        "and start them with the release that fits"
    )
