"""What the tasks themselves have seen, against what the rows say of it."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import psycopg.rows

Row = dict[str, Any]

#: The kinds that run at least once, whatever happens, and so must come to a good end.
LATE = {"late", "waiting_late", "scheduled", "retrying", "chained", "burst"}


class Run(NamedTuple):
    """One attempt, as the task saw it."""

    id: str
    attempt: int
    worker: str


@dataclass
class Verdict:
    """Everything that must not be, each by the jobs it happened to; empty lists, one hopes."""

    lost: list[str]
    unfinished: list[str]
    #: Acknowledged early, and begun more than once.
    repeated: list[str]
    #: Acknowledged late, and not completed, or completed without having run.
    not_done: list[str]
    #: Cancelled before it began, and begun.
    revived: list[str]
    #: Completed, says the row, in an attempt that did not end, or by a worker that did not hold it.
    forged: list[str]
    #: An attempt that has ended, and of which the row says that it was too slow.
    misjudged: list[str]
    #: One attempt that has begun twice.
    doubled: list[Run]
    #: Failed, and the row does not say why.
    unexplained: list[str]

    def failures(self) -> dict[str, list[Any]]:
        """Those that are not empty."""
        return {name: found for name, found in vars(self).items() if found}


class Oracle:
    """The file that the tasks write to."""

    def __init__(self, path: Path) -> None:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        events = [(line.pop("event"), Run(**line)) for line in lines]
        self.begun = Counter(run for event, run in events if event == "begin")
        self.ended = {run for event, run in events if event == "end"}
        self.runs = Counter(run.id for run in self.begun.elements())

    def judge(self, published: Mapping[str, str], rows: Mapping[str, Row]) -> Verdict:
        """Compare with the rows, by task id."""
        present = {task_id: kind for task_id, kind in published.items() if task_id in rows}
        attempts_ended = {(run.id, run.attempt) for run in self.ended}
        return Verdict(
            lost=[task_id for task_id in published if task_id not in rows],
            unfinished=[task_id for task_id, row in rows.items() if row["finished_at"] is None],
            repeated=[
                task_id
                for task_id, row in rows.items()
                if row["task"].endswith((".early", ".waiting")) and self.runs[task_id] > 1
            ],
            not_done=[
                task_id
                for task_id, kind in present.items()
                if kind in LATE
                and (rows[task_id]["state"] != "completed" or not self.runs[task_id])
            ],
            revived=[
                task_id
                for task_id, kind in present.items()
                if kind == "cancelled" and self.runs[task_id]
            ],
            forged=[
                task_id
                for task_id, row in rows.items()
                if row["state"] == "completed"
                and Run(task_id, row["attempt"], row["attempted_by"]) not in self.ended
            ],
            misjudged=[
                task_id
                for task_id, row in rows.items()
                # A chain's step may have ended and still be about to publish the next one.
                if row["task"].endswith((".early", ".late", ".waiting", ".waiting_late"))
                for error in row["errors"]
                if error["type"] == "TimeLimitExceeded"
                and (task_id, error["attempt"]) in attempts_ended
            ],
            # Not those of hostile messages, of which several give themselves the same id.
            doubled=[run for run, count in self.begun.items() if count > 1 and run.id in rows],
            unexplained=[
                task_id
                for task_id, row in rows.items()
                if row["state"] == "discarded" and not row["errors"]
            ],
        )


def read_rows(connection: psycopg.Connection[Any]) -> dict[str, Row]:
    """All jobs, by task id."""
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        cursor.execute(
            "SELECT task_id, task, state, attempt, attempted_by, finished_at, errors"
            " FROM pgjobs.jobs"
        )
        return {row["task_id"]: row for row in cursor}


def rescue_times(connection: psycopg.Connection[Any], killed: Mapping[str, float]) -> list[float]:
    """How long after its death each killed worker's jobs were rescued, in seconds, sorted.

    A worker that held no job when it was killed has none.
    """
    lost = connection.execute(
        "SELECT split_part(e ->> 'message', ' was lost', 1),"
        "       extract(epoch FROM (e ->> 'at')::timestamptz)::float"
        " FROM pgjobs.jobs, jsonb_array_elements(errors) AS e"
        " WHERE e ->> 'type' = 'WorkerLostError' ORDER BY 2 DESC"
    ).fetchall()
    # The first one after its death: it may have been taken for dead before, and have come back.
    first = {worker: at for worker, at in lost if at > killed.get(worker, at)}
    return sorted(at - killed[worker] for worker, at in first.items())


def describe(times: list[float]) -> str:
    """The percentiles of rescue times."""
    if not times:
        return "nobody to rescue"
    return f"p50 {statistics.median(times):.1f} s, max {times[-1]:.1f} s ({len(times)} workers)"
