"""What tasks have written and published in their blocks of ``self.transaction()``."""

from __future__ import annotations

from ..conftest import Connection
from ..e2e import effects


class Ledger:
    """The rows that the tasks have written, and the jobs that they have published."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.execute(effects.LEDGER)  # type: ignore[arg-type]

    def notes(self, task_id: object) -> list[tuple[int, str]]:
        """The attempts that have written, and what they wrote."""
        rows = self._connection.execute(
            "SELECT attempt, note FROM ledger WHERE job = %s ORDER BY at", [str(task_id)]
        )
        return [(row["attempt"], row["note"]) for row in rows]

    def followers(self, task_id: object) -> int:
        """How many jobs it has published, its next steps included."""
        row = self._connection.execute(
            "SELECT count(*) AS n FROM pgjobs.jobs WHERE parent_id = %s AND task_id <> parent_id",
            [str(task_id)],
        ).fetchone()
        return int(row["n"]) if row else 0
