"""The facts by which a job's state is explained: the job itself, and what is around it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ...job.states import State
from .nodes import read_object, read_slots
from .results import possible_ids

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session

#: How many jobs are counted ahead of one at most, and how many entries of its line are looked at.
MOST_AHEAD, DEPTH = 10_000, 20_000
#: How many are named at most: jobs, nodes.
FEW, NODES = 10, 50
#: Among how many of a queue's first entries a worker's jobs are looked for, and among how many of
#: the newest ends the last of a queue.
SHALLOW = 1000


class JobFacts(NamedTuple):
    """A job, the node that holds it, and the limits of its queue, at a time of the server's."""

    task_id: str
    task: str
    queue: str
    state: State
    attempt: int
    max_attempts: int
    priority: int
    seq: int
    #: False for a row that stands for a task and cannot be run itself.
    has_message: bool
    acks_late: bool
    reported_state: str | None
    attempted_by: str | None
    now: datetime
    inserted_at: datetime
    scheduled_at: datetime
    due_at: datetime | None = None
    attempted_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    superseded_by: str | None = None
    #: The last entry of its errors; empty without one.
    error: dict[str, Any] = {}
    #: The name of the node that holds it, its last heartbeat, and for how many seconds that counts;
    #: None where that node has no row.
    node: str | None = None
    heartbeat_at: datetime | None = None
    lease: float | None = None
    paused_at: datetime | None = None
    concurrency: int | None = None
    #: How many nodes live, whatever they consume.
    live_nodes: int = 0
    #: The lane that it stands in; None for the line of its queue.
    lane: str | None = None
    tags: Sequence[str] = ()
    #: The path by whose values the queue is shared; and when its pause ends by itself.
    fair_by: str | None = None
    paused_until: datetime | None = None


class Lock(NamedTuple):
    """The session that has locked the job's row; what its role may not see is None."""

    #: None for a prepared transaction.
    pid: int | None
    user: str | None = None
    application: str | None = None
    xact_start: datetime | None = None
    query_start: datetime | None = None
    state: str | None = None
    query: str | None = None
    #: It has locked the table and not this row alone.
    is_table: bool = False


class Line(NamedTuple):
    """How a queue's line stands, as far as it was looked through."""

    ahead: int = 0
    running: int = 0
    #: There is more of it.
    is_cut: bool = False
    #: All that stand ahead were counted.
    has_all_ahead: bool = True


class InLane(NamedTuple):
    """A job's place in its lane, and its lane's place among the others of the queue."""

    #: Up to MOST_AHEAD.
    ahead: int = 0
    #: How many open lanes have their turn before; up to MOST_AHEAD.
    lanes_ahead: int = 0
    #: When the lane opens, if it is shut; infinity stands for the end of a job.
    shut_for: float | None = None


class Running(NamedTuple):
    """A job that runs."""

    task_id: str
    task: str
    worker: str | None
    since: datetime | None


class Consumer(NamedTuple):
    """A node that consumes from the job's queue."""

    node: UUID
    name: str
    heartbeat_at: datetime
    is_alive: bool
    queues: list[str]
    #: How many tasks it runs at once; None where it does not tell.
    slots: int | None = None
    #: Whether its app registers the task; None where it does not tell.
    knows_task: bool | None = None


class Held(NamedTuple):
    """How many jobs a node holds, and since when the oldest."""

    jobs: int
    since: datetime | None


class LastRun(NamedTuple):
    """The worker that was the last to end a job of a queue."""

    worker: str
    finished_at: datetime


class WaitFacts(NamedTuple):
    """The sleep or signal that a scheduled job waits for, and the steps that it has done."""

    #: It sleeps, or waits for a signal.
    is_there: bool
    signal: str | None
    key: str | None
    since: datetime | None
    until: datetime | None
    #: The names of the newest, in their order.
    done: list[str]
    #: Those of signals that were sent to it, and that it does not wait for.
    kept: Sequence[str] = ()


class ChordFacts(NamedTuple):
    """A chord that is open, and the tasks of its header that have not finished."""

    group_id: str
    inserted_at: datetime
    size: int
    #: Up to DEPTH.
    finished: int
    now: datetime
    unfinished: tuple[tuple[str, State], ...] = ()


class Explain:
    """Statements that explain a job, one method each: they lock nothing and are bounded."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def explain_job(self, task_id: str) -> JobFacts | None:
        """The job; None if it has no row."""
        if not possible_ids([task_id]):
            return None
        rows = self._fetch("explain_job", task_id=task_id)
        if not rows:
            return None
        values = dict(zip(JobFacts._fields, rows[0], strict=True))
        values["state"] = State(values["state"])
        values["error"] = read_object(values["error"])
        return JobFacts(**values)

    def explain_lock(self, task_id: str) -> Lock | None:
        """The session that has locked the row against claims; None without one."""
        rows = self._fetch("explain_lock", task_id=task_id)
        return Lock(*rows[0]) if rows else None

    def explain_line(self, queue: str, priority: int, seq: int) -> Line:
        """How many stand before this place of the queue, and how many run."""
        rows = self._fetch("explain_line", queue=queue, priority=priority, seq=seq, depth=DEPTH)
        return Line(*rows[0])

    def explain_lane(self, queue: str, lane: str, priority: int, seq: int) -> InLane:
        """How many stand before this place of the lane, and how many lanes before it."""
        values = {"queue": queue, "lane": lane, "priority": priority, "seq": seq}
        return InLane(*self._fetch("explain_lane", depth=MOST_AHEAD + 1, **values)[0])

    def explain_holders(self, gate: str) -> list[Running]:
        """A few of the jobs that hold the places of a gate."""
        rows = self._fetch("explain_holders", gate=gate, limit=FEW)
        return [Running(*row) for row in rows]

    def explain_running(self, queue: str) -> list[Running]:
        """A few of the jobs of the queue that run, the oldest first."""
        rows = self._fetch("explain_running", queue=queue, depth=DEPTH, limit=FEW)
        return [Running(*row) for row in rows]

    def explain_consumers(self, queue: str, task: str) -> list[Consumer]:
        """The nodes that consume from the queue, the living first."""
        rows = self._fetch("explain_consumers", queue=queue, task=task, limit=NODES)
        return [
            Consumer(*row)._replace(slots=read_slots(read_object(details)), knows_task=knows_task)
            for *row, details, knows_task in rows
        ]

    def explain_held(self, queues: Sequence[str]) -> dict[UUID, Held]:
        """How many jobs of these queues each node holds."""
        rows = self._fetch("explain_held", queues=list(queues)[:NODES], depth=SHALLOW)
        return {node: Held(*held) for node, *held in rows}

    def explain_last_run(self, queue: str) -> LastRun | None:
        """The worker that was the last to end a job of the queue; None if that is long ago."""
        rows = self._fetch("explain_last_run", queue=queue, depth=SHALLOW)
        return LastRun(*rows[0]) if rows else None

    def explain_steps(self, task_id: str) -> WaitFacts | None:
        """The sleep or signal that it waits for; None where it does neither."""
        rows = self._fetch("explain_steps", task_id=task_id, limit=FEW)
        facts = WaitFacts(*rows[0]) if rows else None
        return facts if facts is not None and facts.is_there else None

    def explain_chord(self, task_id: str) -> ChordFacts | None:
        """The open chord whose body names this id; None without one."""
        if not possible_ids([task_id]) or not task_id:
            return None
        rows = self._fetch("explain_chord", id=task_id.encode(), limit=SHALLOW, depth=DEPTH)
        if not rows:
            return None
        group_id = rows[0][0]
        members = self._fetch("explain_members", group_id=group_id, depth=DEPTH, limit=FEW)
        unfinished = tuple((id, State(state)) for id, state in members)
        return ChordFacts(*rows[0])._replace(unfinished=unfinished)

    def _fetch(self, name: str, /, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, **values)]
        # Never in a caller's transaction, whose other statements these settings would slow down: a
        # job that is not committed is not there for a worker, either.
        return session.retrying(lambda: session.run(calls))[1]
