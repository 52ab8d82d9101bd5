"""Back-pressure: refuse, delay or make room for what is published into a full queue.

A queue is full when as many of its jobs wait to be claimed as ``max_depth`` says. They are counted
once for many jobs: a count allows its process a twentieth of ``max_depth``, for a second at most.
So several publishers may put it over by as much each.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote
from typing import Any

from ..control.acting import begin_action
from ..control.app import program_app
from ..db.database import Database
from ..errors import QueueFull
from ..job.flow_options import DROP_OLDEST, WAIT
from .insertion import Insertion
from .laning import Depth, known_rules
from .run import current_request

#: How much of ``max_depth`` one count allows, and for how many seconds.
SHARE, LIFETIME = 20, 1.0
#: Seconds for which a queue that was found full counts as full, and between two looks of a
#: publisher that waits: from the first to the second.
SHORTEST, LONGEST = 0.05, 0.5


class Room:
    """How many jobs this process may put into a queue before it counts again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self._until = 0.0
        self._full_until = 0.0
        #: How many had room when it was found full for more.
        self._free = 0
        #: How many waited when it was found full.
        self.depth = 0

    def take(self, database: Database, queue: str, count: int, depth: Depth) -> bool:
        """True if so many more may be put there; they count as put."""
        most = depth.max_depth
        with self._lock:
            now = time.monotonic()
            if self._left >= count and now < self._until:
                self._left -= count
                return True
            # A job must not be dropped for a queue that has room by now.
            if now < self._full_until and count > self._free and depth.on_full != DROP_OLDEST:
                return False
            with database.beside():
                self.depth = database.flow_rules.count_depth(queue, most + 1)
            self._free = free = most - self.depth
            if free < count:
                self._left, self._full_until = 0, now + SHORTEST
                return False
            self._left = max(count, min(free, most // SHARE)) - count
            self._until = now + LIFETIME
            return True


class Rooms:
    """The rooms of a database's queues."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def of(self, queue: str) -> Room:
        """The one of a queue."""
        room = self._rooms.get(queue)
        return room if room is not None else self._rooms.setdefault(queue, Room())


def admit(database: Database, insertions: Sequence[Insertion]) -> None:
    """See that the queues of these jobs have room for them, or make it.

    Raises QueueFull, and then none of them was put. Costs nothing where no queue has a depth.
    """
    depths = known_rules(database).depths
    if not depths:
        return
    for queue, count in sorted(_count(insertions, depths).items()):
        _admit(database, queue, count, depths[queue])


def _count(insertions: Iterable[Insertion], depths: Mapping[str, Depth]) -> Counter[str]:
    """How many jobs come into each queue that may be full.

    Not those that were there before, nor those whose time has not come, nor what follows a task
    that has ended: to refuse that would break its canvas off.
    """
    request = current_request()
    return Counter(
        each.job.queue
        for each in insertions
        if each.job.queue in depths
        and each.job.eta is None
        and each.run.holder is None
        and not each.run.is_holder_only
        and not (request and _follows(request, each.job.task_id, each.job.task))
    )


def _admit(database: Database, queue: str, count: int, depth: Depth) -> None:
    room = database_rooms(database).of(queue)
    deadline = time.monotonic() + depth.wait
    pause = SHORTEST
    while not room.take(database, queue, count, depth):
        if depth.on_full == DROP_OLDEST and count <= depth.max_depth:
            missing = count - (depth.max_depth - room.depth)
            details = {"max_depth": depth.max_depth}
            action = begin_action("drop_jobs", program_app(), queue=queue, details=details)
            with database.joining():
                database.flow_rules.drop_oldest(queue, missing, depth.max_depth, action)
            return
        left = deadline - time.monotonic()
        # Where the caller's transaction is open, what it holds may be what keeps others from
        # making room; and a worker waits for no longer than it takes to say so.
        may_wait = depth.on_full == WAIT and count <= depth.max_depth and not _is_held(database)
        if not may_wait or left <= 0:
            raise _refusal(queue, count, room.depth, depth)
        time.sleep(min(left, pause * random.uniform(0.8, 1.2)))
        pause = min(pause * 1.5, LONGEST)


def _is_held(database: Database) -> bool:
    """True in a transaction, our own or the caller's."""
    return database.is_in_transaction or database.find_point().caller is not None


def _refusal(queue: str, count: int, depth: int, rule: Depth) -> QueueFull:
    jobs = "another" if count == 1 else f"{count} more"
    waits = (
        f"{min(depth, rule.max_depth)}{' or more' if depth > rule.max_depth else ''} of its jobs"
    )
    waits += " waits" if depth == 1 else " wait"
    return QueueFull(
        f"queue {queue!r} is full: {waits}, its max_depth is {rule.max_depth}, "
        f"and {jobs} cannot be published. Start workers for it, publish later, or raise "
        "max_depth (pgjobs_queues, or queues(app) at run time). What keeps it from emptying: "
        f"celery pgjobs queues explain {quote(queue)}",
        queue,
        depth,
        rule.max_depth,
    )


def _follows(request: Any, task_id: str, task: str) -> bool:
    """True for a job that Celery publishes because this task has ended: its next step, a link."""
    embedded = (request.chain, request.callbacks, request.errbacks, request.chord)
    return any(_holds(each, task_id, task) for each in embedded if each)


def _holds(signature: Any, task_id: str, task: str) -> bool:
    if isinstance(signature, (list, tuple)):
        return any(_holds(each, task_id, task) for each in signature)
    if not isinstance(signature, Mapping) or "options" not in signature:
        return False
    own = signature["options"].get("task_id")
    if own == task_id or (own is None and signature.get("task") == task):
        return True
    parts = signature.get("kwargs") or {}
    within = [parts.get(name) for name in ("tasks", "header", "body")]
    within += [signature["options"].get(name) for name in ("chain", "chord", "link", "link_error")]
    return any(_holds(each, task_id, task) for each in within if each)


def database_rooms(database: Database) -> Rooms:
    """The rooms of a database's queues, as this process knows them."""
    known = known_rules(database)
    if known.rooms is None:
        known.rooms = Rooms()
    rooms: Rooms = known.rooms
    return rooms
