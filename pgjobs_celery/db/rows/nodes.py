"""The rows of ``nodes``: which processes claim jobs, and are they alive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ..._version import __version__

if TYPE_CHECKING:
    from ..connection import Connection, Row
    from ..session import Session

#: How many nodes are listed at most, and how many of the jobs that they hold.
MOST_NODES, MOST_HELD = 1000, 5000
#: Among how many entries of all lines together those jobs are looked for, and of each at most and
#: at least: what runs stands at the head.
ALL_ENTRIES, MOST_ENTRIES, FEWEST_ENTRIES = 50_000, 1000, 50


class About(NamedTuple):
    """What a process that claims jobs is, which seldom changes."""

    #: host, pid, pool, slots, celery, python; what does not apply is left out.
    details: dict[str, Any]
    #: The names of the tasks that it knows; None where that is not told.
    tasks: tuple[str, ...] | None = None


class Beat(NamedTuple):
    """The answer to a heartbeat."""

    others_are_dead: bool
    #: The row does not have what the node is.
    is_unknown: bool


class NodeRow(NamedTuple):
    """A process that claims jobs, at a time of the server's."""

    node: UUID
    name: str
    version: str
    details: dict[str, Any]
    tasks: tuple[str, ...] | None
    lost_claims: int
    lease: float
    started_at: datetime
    heartbeat_at: datetime
    #: Of jobs; not its mailboxes.
    queues: tuple[str, ...]
    now: datetime


class HeldRow(NamedTuple):
    """A job that a node holds."""

    node: UUID
    task_id: str
    task: str
    queue: str
    attempt: int
    attempted_at: datetime | None


class Nodes:
    """Statements on node rows, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def beat_node(
        self,
        node: UUID,
        name: str,
        queues: Sequence[str],
        lease: float,
        grace: float = 0.0,
        lost_claims: int = 0,
        connection: Connection | None = None,
        about: About | None = None,
    ) -> Beat:
        """Say that ``node`` is alive and what it consumes.

        ``lease`` is how long it may be silent before it counts as dead. Only a node whose
        heartbeats have had no gap for ``grace`` seconds is told of dead ones. ``lost_claims``:
        how many outcomes it could not write because others had the jobs by then. ``about``: None
        for what it told before.
        """
        call = self._session.call(
            "beat_node",
            node=node,
            name=name,
            queues=list(queues),
            version=__version__,
            lease=lease,
            grace=grace,
            lost_claims=lost_claims,
            details=None if about is None else json.dumps(about.details),
            tasks=None if about is None or about.tasks is None else list(about.tasks),
        )
        rows = connection.run([call]) if connection else self._session.run([call])
        return Beat(*rows[0][0])

    def delete_node(self, node: UUID) -> None:
        """Say that ``node`` is gone; it must hold no jobs any more."""
        self._session.fetch("delete_node", node=node)

    def list_nodes(self) -> list[NodeRow]:
        """The processes that claim jobs, by name, the dead that are not buried among them."""
        found = []
        for values in self._read("list_nodes", limit=MOST_NODES):
            row = NodeRow(*values)
            tasks = None if row.tasks is None else tuple(row.tasks)
            details, queues = read_object(row.details), tuple(row.queues)
            found.append(row._replace(details=details, tasks=tasks, queues=queues))
        return found

    def list_held(self, queues: Sequence[str]) -> list[HeldRow]:
        """The jobs of these queues that nodes hold, those that were claimed first.

        They are looked for near the head of each line, and no further.
        """
        if not queues:
            return []
        depth = min(MOST_ENTRIES, max(FEWEST_ENTRIES, ALL_ENTRIES // len(queues)))
        rows = self._read("list_held", queues=list(queues), depth=depth, limit=MOST_HELD)
        return [HeldRow(*row) for row in rows]

    def _read(self, name: str, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, **values)]
        return session.retrying(lambda: session.run(calls))[1]


def read_object(text: Any) -> dict[str, Any]:
    """An object from JSON; an empty one from anything else."""
    try:
        value = json.loads(text or "{}")
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_slots(details: dict[str, Any]) -> int | None:
    """How many tasks a node runs at once; None where its row does not tell."""
    slots = details.get("slots")
    return slots if isinstance(slots, int) and not isinstance(slots, bool) else None
