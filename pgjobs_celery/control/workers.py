"""``workers(app)``: the processes that claim jobs, what each of them is, and what it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..db.rows.nodes import HeldRow, NodeRow, read_slots
from .app import database_of

if TYPE_CHECKING:
    from ..db.database import Database


@dataclass(frozen=True)
class HeldJob:
    """A job that a worker runs, or is about to."""

    task_id: str
    task: str
    queue: str
    attempt: int
    #: When it was claimed.
    since: datetime | None
    #: How long ago that was, in seconds by the server's clock.
    seconds: float


@dataclass(frozen=True)
class Worker:
    """A process that claims jobs, as its row tells; by the server's clock."""

    name: str
    #: Identifies the process: two of one name are two.
    node: str
    #: How long it may be silent still, in seconds; below 0: how long it has been dead. Its row goes
    #: when another worker has taken its jobs.
    lease_left: float
    lease: float
    started_at: datetime
    heartbeat_at: datetime
    #: How long it has lived, in seconds.
    uptime: float
    queues: tuple[str, ...] = ()
    #: What it has claimed, the oldest first.
    jobs: tuple[HeldJob, ...] = ()
    #: How many attempts it brought to an end when others had taken them already.
    lost_claims: int = 0
    #: Of pgjobs-celery. What follows is None where the worker does not tell.
    version: str | None = None
    celery: str | None = None
    python: str | None = None
    host: str | None = None
    pid: int | None = None
    #: As ``--pool`` names it; None for a process that is not a worker of Celery's.
    pool: str | None = None
    #: How many tasks it runs at once.
    slots: int | None = None
    #: The tasks that it knows; None also where they are more than 1,000.
    tasks: tuple[str, ...] | None = None

    @property
    def is_alive(self) -> bool:
        """True within its lease: the jobs that it holds are its own."""
        return self.lease_left > 0

    @property
    def is_silent(self) -> bool:
        """True when it has missed several heartbeats, and may be dead."""
        return self.lease_left < self.lease / 2


def workers(app: Any) -> list[Worker]:
    """The processes that claim jobs in the app's database, by name.

    Those among them that have died, and whose jobs no other worker has taken yet.

    Raises PgJobsError if neither broker nor result backend is one of ours.

    >>> [(worker.name, worker.pool, len(worker.jobs)) for worker in workers(app)]
    [('celery@web1', 'prefork', 0)]
    """
    return list_workers(database_of(app))


def list_workers(database: Database) -> list[Worker]:
    """As :func:`workers`, in a database."""
    rows = database.nodes.list_nodes()
    held: dict[Any, list[HeldRow]] = defaultdict(list)
    for job in database.nodes.list_held(sorted({queue for row in rows for queue in row.queues})):
        held[job.node].append(job)
    return [as_worker(row, held[row.node]) for row in rows]


def as_worker(row: NodeRow, held: Sequence[HeldRow]) -> Worker:
    """A node's row, and what it holds, as people look at them."""
    # A condemned node's heartbeat is -infinity, which is the earliest time here.
    silent = (row.now - row.heartbeat_at).total_seconds()
    return Worker(
        name=row.name,
        node=str(row.node),
        lease_left=row.lease - silent,
        lease=row.lease,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        uptime=max(0.0, (row.now - row.started_at).total_seconds()),
        queues=row.queues,
        jobs=tuple(as_held(job, row.now) for job in held),
        lost_claims=row.lost_claims,
        version=row.version,
        celery=_text(row, "celery"),
        python=_text(row, "python"),
        host=_text(row, "host"),
        pid=row.details["pid"] if isinstance(row.details.get("pid"), int) else None,
        pool=_text(row, "pool"),
        slots=read_slots(row.details),
        tasks=row.tasks,
    )


def as_held(job: HeldRow, now: datetime) -> HeldJob:
    """A job that is held, at a time of the server's."""
    seconds = max(0.0, (now - job.attempted_at).total_seconds()) if job.attempted_at else 0.0
    return HeldJob(job.task_id, job.task, job.queue, job.attempt, job.attempted_at, seconds)


def _text(row: NodeRow, name: str) -> str | None:
    value = row.details.get(name)
    return value if isinstance(value, str) else None
