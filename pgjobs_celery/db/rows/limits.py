"""The rows of ``limits``: queues that are paused, or limited for all workers together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import notify
from ..sql import statement
from .audit import Action, Audit

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session

#: How long a change waits for the claims that began before it, in milliseconds.
LOCK_TIMEOUT = 5000


class QueueRow(NamedTuple):
    """A queue, and what holds for all workers."""

    name: str
    paused_at: datetime | None = None
    concurrency: int | None = None
    #: When the pause ends by itself; None for one that stays.
    paused_until: datetime | None = None
    #: The path of the key by whose values it is shared fairly, and after how many seconds a job
    #: counts as more urgent.
    fair_by: str | None = None
    ageing: float | None = None
    #: How many jobs may wait in it, and what happens to one more.
    max_depth: int | None = None
    on_full: str | None = None
    full_wait: float | None = None


class LimitsLook(NamedTuple):
    """All that a worker must know before it claims."""

    #: The queues that are limited for all workers together, and to how many jobs.
    shared: dict[str, int]
    #: The queues whose rules put each of their jobs into a lane; some as flows name them.
    sorted: frozenset[str] = frozenset()
    #: A pause of a task, a tag or a key holds.
    has_pauses: bool = False


class QueueLimits:
    """Statements on the limits of queues, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._audit = Audit(session)

    def pause_queue(
        self,
        queue: str,
        action: Action | None = None,
        *,
        until: datetime | None = None,
        seconds: float | None = None,
    ) -> None:
        """Have nothing claimed from a queue any more, from the moment this returns.

        Until a time, or for so many seconds; without either until it is resumed.
        """
        with self._changing() as run:
            ((is_new,),) = run("pause_queue", queue=queue, until=until, seconds=seconds)
            if is_new and action is not None:
                run("record_action", **action.values())
            run("lock_nodes")
        if until is not None or seconds is not None:
            self._announce()

    def resume_queue(self, queue: str, action: Action | None = None) -> bool:
        """Have a queue claimed from again, at once; False if it was not paused."""
        with self._session.transaction():
            was_paused = bool(self._session.fetch("resume_queue", queue=queue))
            if was_paused and action is not None:
                self._audit.record_action(action)
        self._announce()
        return was_paused

    def limit_queue(
        self, queue: str, concurrency: int | None, action: Action | None = None
    ) -> None:
        """Have no more than so many jobs of a queue run at once; None for any number.

        Those that run already count, so that it holds for whatever is claimed from now on.
        """
        with self._changing() as run:
            ((former,),) = run("limit_queue", queue=queue, concurrency=concurrency)
            if former != concurrency and action is not None:
                run("record_action", **action.values())
            run("lock_nodes")
            if former is None and concurrency is not None:
                run("fill_slots", queue=queue)
        self._announce()

    def get_limits(self, queue: str) -> QueueRow:
        """The limits of a queue, which need not exist."""
        rows = self._session.fetch("get_limits", queue=queue)
        return QueueRow(queue, *rows[0]) if rows else QueueRow(queue)

    def look_at_limits(self) -> LimitsLook:
        """All that a worker must know before it claims."""
        rows = self._session.fetch("look_at_limits")
        return LimitsLook(
            {queue: limit for queue, limit, _ in rows if limit is not None},
            frozenset(queue for queue, _, is_sorted in rows if is_sorted),
            any(queue is None for queue, _, _ in rows),
        )

    def list_queues(self) -> list[QueueRow]:
        """The queues that were declared to stay, and those that are paused or limited; by name."""
        return [QueueRow(*row) for row in self._session.fetch("list_queues")]

    @contextmanager
    def _changing(self) -> Iterator[Callable[..., list[Row]]]:
        """A transaction of statements that are not part of the hot path, LOCK among them."""
        with self._session.connection() as connection, connection.psycopg.transaction():

            def run(name: str, **values: Any) -> list[Row]:
                query = statement(name, self._session.schema)
                cursor = connection.psycopg.execute(query, values)
                return cursor.fetchall() if cursor.description else []

            # All claims wait behind who waits for the nodes.
            run("wait_briefly", milliseconds=LOCK_TIMEOUT)
            yield run

    def _announce(self) -> None:
        """Have every worker look."""
        self._session.run([self._session.wake(notify.QUEUE)])
