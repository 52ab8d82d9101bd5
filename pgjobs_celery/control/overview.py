"""How queues, workers and failures stand now: for a look every few seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..db.rows.overview import ALL_ENTRIES
from .explanation import error_text
from .workers import Worker, list_workers

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.limits import QueueRow
    from ..db.rows.overview import Flow, LineRow

#: Over how many seconds rates are taken; shorter where more jobs came than are looked at.
WINDOW = 10.0


@dataclass(frozen=True)
class QueueNow:
    """A queue, as it stands."""

    name: str
    #: How many of its jobs may run, and how many run, as far as it was looked through.
    ready: int = 0
    running: int = 0
    #: There are more.
    is_cut: bool = False
    #: Seconds since the oldest ready job could have run; None where none is ready.
    oldest_wait: float | None = None
    #: Jobs a second that were published, and that ended.
    rate_in: float = 0.0
    rate_out: float = 0.0
    #: How many failed for good while the rate was taken.
    failed: int = 0
    #: How many live workers consume from it.
    consumers: int = 0
    paused_at: datetime | None = None
    concurrency: int | None = None


@dataclass(frozen=True)
class Failure:
    """A job that has failed for good."""

    task_id: str
    task: str
    queue: str
    worker: str | None
    #: How long ago, in seconds.
    seconds: float
    error: str


@dataclass(frozen=True)
class Overview:
    """The jobs as a whole, at one time."""

    #: By name.
    queues: tuple[QueueNow, ...] = ()
    workers: tuple[Worker, ...] = ()
    #: The newest first.
    failures: tuple[Failure, ...] = ()
    #: Over how many seconds ``rate_out`` and ``failed`` were taken.
    seconds: float = WINDOW


def overview(database: Database, entries: int = ALL_ENTRIES) -> Overview:
    """How all stands; reads by indexes, and a bounded number of rows.

    ``entries``: how many jobs in line are looked at, of all queues together.
    """
    rows = database.overview
    limits = database.limits.list_queues()
    workers = list_workers(database)
    used = {queue for worker in workers for queue in worker.queues}
    names = used.union(rows.find_lines(), (each.name for each in limits))
    lines, began = rows.survey_lines(sorted(names), entries), rows.count_beginnings(WINDOW)
    ended = rows.count_ends(WINDOW)
    failures = [
        Failure(*row[:-1], error_text(row.error) or "no error is recorded")
        for row in rows.list_failures()
    ]
    queues = join_queues(sorted(names), lines, limits, workers, began, ended)
    return Overview(tuple(queues), tuple(workers), tuple(failures), ended.seconds)


def join_queues(
    names: Sequence[str],
    lines: Sequence[LineRow],
    limits: Sequence[QueueRow],
    workers: Sequence[Worker],
    began: Flow,
    ended: Flow,
) -> list[QueueNow]:
    """What is known of each queue, in one place."""
    line_of = {line.queue: line for line in lines}
    limit_of = {limit.name: limit for limit in limits}
    consumers = Counter(queue for each in workers if each.is_alive for queue in each.queues)
    found = []
    for name in names:
        known: dict[str, Any] = {}
        if (line := line_of.get(name)) is not None:
            wait = line.oldest_wait
            known |= line._asdict() | {"oldest_wait": None if wait is None else max(0.0, wait)}
            del known["queue"]
        if (limit := limit_of.get(name)) is not None:
            known |= {"paused_at": limit.paused_at, "concurrency": limit.concurrency}
        queue = QueueNow(
            name,
            rate_in=began.jobs.get(name, 0) / began.seconds,
            rate_out=ended.jobs.get(name, 0) / ended.seconds,
            failed=ended.failed.get(name, 0),
            consumers=consumers[name],
            **known,
        )
        found.append(queue)
    return found
