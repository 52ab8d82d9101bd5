"""``queues(app)``: pause, resume and limit queues for all workers together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..config import check_queue_name
from ..db.database import Database
from .app import database_of
from .one_queue import OneQueue


@dataclass(frozen=True)
class Queue:
    """A queue, with its pause and its limit for all workers."""

    name: str
    #: The time since which no job is claimed from it; None while it runs.
    paused_at: datetime | None = None
    #: How many of its jobs may run at once; None for any number.
    concurrency: int | None = None
    #: When the pause ends by itself; None for one that stays until the queue is resumed.
    paused_until: datetime | None = field(default=None, repr=False)
    #: The path of the key by whose values the queue is shared fairly; None for one line.
    fair_by: str | None = field(default=None, repr=False)
    #: After how many seconds of waiting a job counts as more urgent by one; None for never.
    ageing: float | None = field(default=None, repr=False)
    #: How many jobs may wait in it; None for any number.
    max_depth: int | None = field(default=None, repr=False)
    #: A publisher's choice when so many wait: raise, wait or drop_oldest.
    on_full: str | None = field(default=None, repr=False)
    #: For how many seconds it waits at most.
    full_wait: float | None = field(default=None, repr=False)

    @property
    def is_paused(self) -> bool:
        """True while no worker begins a job of it."""
        return self.paused_at is not None


class Queues:
    """The queues of a database. What is set here is kept there, and lasts until it is set anew.

    A queue need not be there: one that is paused before anything declares or fills it is paused
    then, and one that is deleted and declared again is paused still.
    """

    def __init__(self, database: Database, app: Any = None) -> None:
        self._limits = database.limits
        self._database = database
        self._app = app

    def __getitem__(self, name: str) -> OneQueue:
        """A queue whose rules are to be changed, whether it exists or not."""
        return OneQueue(self._database, check_queue_name(name), self._app)

    def pause(self, name: str, until: datetime | timedelta | float | None = None) -> None:
        """Stop all workers from claiming jobs of the queue, from the moment this returns.

        Claimed jobs run to their end. ``until``: a time, or a timedelta or seconds from now, at
        which the queue is resumed by a worker; None for until it is resumed. Raises InvalidOption
        for an invalid name or time.
        """
        self[name].pause(until)

    def resume(self, name: str) -> bool:
        """Let workers claim from the queue again, at once; False if it was not paused."""
        return self[name].resume()

    def limit(self, name: str, concurrency: int | None) -> None:
        """Limit the queue to ``concurrency`` jobs at once; None for any number.

        On all workers together, from the moment this returns; where more run already, until so many
        have ended nothing is claimed. Raises InvalidOption unless it is a whole number from 0.
        """
        self[name].concurrency(concurrency)

    def get(self, name: str) -> Queue:
        """The limits of a queue, whether it exists or not."""
        return Queue(*self._limits.get_limits(check_queue_name(name)))

    def __iter__(self) -> Iterator[Queue]:
        """The queues that were declared to stay, and those that are paused or limited; by name."""
        return iter([Queue(*row) for row in self._limits.list_queues()])


def queues(app: Any) -> Queues:
    """The queues of a Celery app: in the database of its broker, or else of its result backend.

    Raises PgJobsError if neither is one of ours.

    >>> queues(app).limit("emails", 5)
    >>> queues(app).get("emails").concurrency
    5
    """
    return Queues(database_of(app), app)
