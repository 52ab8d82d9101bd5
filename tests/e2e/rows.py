"""Look at the rows: what a test asserts on beside the behaviour."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ..conftest import Connection
from ..support.waiting import LIMIT, wait_for

Row = dict[str, Any]

#: The states in which a job has come to its end.
FINAL = ("completed", "discarded", "cancelled")


class Rows:
    """The table ``jobs``, read over a connection of the test's own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, task_id: object) -> Row:
        """The job of a task id; there must be exactly one."""
        rows = self.select("SELECT * FROM pgjobs.jobs WHERE task_id = %s", str(task_id))
        assert len(rows) == 1, f"{len(rows)} rows for task {task_id}"
        return rows[0]

    def wait(self, task_id: object, *states: str, timeout: float = LIMIT) -> Row:
        """The job once it is in one of these states; by default, once it is finished."""

        def look() -> Row | None:
            row = self.get(task_id)
            return row if row["state"] in (states or FINAL) else None

        return wait_for(look, timeout, lambda: f"{states or FINAL}; it is {self.get(task_id)}")

    def count(self) -> dict[str, int]:
        """How many jobs are in each state."""
        found = self.select("SELECT state, count(*) AS n FROM pgjobs.jobs GROUP BY state")
        return {row["state"]: row["n"] for row in found}

    def wait_count(self, timeout: float = LIMIT, **states: int) -> None:
        """Wait until there are exactly these many in each state, and none in any other."""
        wait_for(lambda: self.count() == states, timeout, lambda: f"{states}, not {self.count()}")

    def nodes(self) -> dict[UUID, str]:
        """The processes that may hold claims, by their id: their names."""
        return {
            row["node"]: row["name"] for row in self.select("SELECT node, name FROM pgjobs.nodes")
        }

    def seconds_from_now(self, moment: datetime) -> float:
        """How far away that is, by the database's clock; below 0 for what is over."""
        (row,) = self.select("SELECT extract(epoch FROM %s - now())::float AS seconds", moment)
        return float(row["seconds"])

    def select(self, query: str, *values: Any) -> list[Row]:
        """The rows of any other query."""
        return self._connection.execute(query, values).fetchall()  # type: ignore[arg-type]


def errors(row: Row) -> list[tuple[int, str]]:
    """The failed attempts of a job: which, and the exception's type."""
    return [(entry["attempt"], entry["type"]) for entry in row["errors"]]


def assert_finished(
    row: Row, state: str = "completed", attempt: int = 1, reported: str | None = None
) -> None:
    """The row is at its end, and nothing in it says otherwise."""
    assert (row["state"], row["attempt"]) == (state, attempt), row["errors"]
    assert row["finished_at"] is not None
    assert row["claimed_by"] is None
    assert row["due_at"] is None
    assert row["reported_state"] == reported, row["reported_state"]
