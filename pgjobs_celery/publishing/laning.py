"""Find the lane of a job that is being published: the rates, limits and turns that hold it up.

They come from its task, from ``pgjobs_queues``, and from the database, where rules are set at run
time, and where workers register those of their code: so that a program which publishes a task by
its name has them, too. A process that publishes reads these every few seconds.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from kombu.compression import decompress
from kombu.utils import json as kombu_json

from ..config import read_flow_settings
from ..control.app import forget_app, program_app
from ..db.database import CONNECTION_ERRORS, Database
from ..db.rows.flow_rules import FlowBy, QueueRow
from ..job.flow import (
    HAND,
    QUEUE,
    RATE,
    RUNNING,
    TASK,
    flow_name,
    gate_name,
    key_text,
    lane_text,
    laned_priority,
    rank_of,
)
from ..job.flow_options import (
    FULL_WAIT,
    RAISE,
    Arguments,
    Declared,
    Gate,
    QueueRules,
    TaskFlow,
    find_key,
)
from ..job.options import JobOptions
from ..job.rows import NewJob
from .declared import find_declared

#: How old what a publisher knows of the rules may be, in seconds.
PERIOD = 5.0
#: And after how many it looks again where that has failed.
AGAIN = 1.0
#: ``by`` of a flow whose key a function finds, which only the task's own code has.
FUNCTION = "()"
#: Not even whether the program has an app.
UNKNOWN = object()


class Depth(NamedTuple):
    """How many jobs may wait in a queue, and what happens to the next one."""

    max_depth: int
    on_full: str = RAISE
    #: How long its publisher waits for room, in seconds.
    wait: float = FULL_WAIT


class Rules:
    """A publisher's knowledge: the flows, and the queues that are fair or may be full."""

    def __init__(
        self,
        own: Mapping[str, QueueRules],
        flows: list[FlowBy],
        queues: list[QueueRow],
    ) -> None:
        #: The argument by which each flow counts: of rules set by hand, and of all.
        self.by_hand = {row.flow: row.by for row in flows if row.source == HAND}
        self.by = {row.flow: row.by for row in flows if row.source != HAND} | self.by_hand
        self.fair: dict[str, str] = {}
        self.depths: dict[str, Depth] = {}
        #: The gates of a queue that the program's own settings give.
        self._own: dict[str, list[FlowBy]] = {}
        for name, rules in own.items():
            rows = rules.rows(name)
            if rows:
                self._own[name] = [FlowBy(row.flow, row.source, row.by) for row in rows]
            if rules.fair is not None:
                self.fair[name] = rules.fair
            if rules.max_depth is not None:
                self.depths[name] = Depth(rules.max_depth, rules.on_full, rules.full_wait)
        for row in queues:
            self._add_queue(row)
        self.is_empty = not (self.by or self.fair or self._own)
        self._lanes: dict[tuple[str, str], bool] = {}

    def _add_queue(self, row: QueueRow) -> None:
        """The rule in the database counts, also where somebody has set none by hand."""
        if row.fair_by is not None:
            self.fair[row.queue] = row.fair_by
        elif "fair_by" in row.by_hand:
            self.fair.pop(row.queue, None)
        if row.max_depth is not None:
            wait = FULL_WAIT if row.full_wait is None else row.full_wait
            self.depths[row.queue] = Depth(row.max_depth, row.on_full or RAISE, wait)
        elif "max_depth" in row.by_hand:
            self.depths.pop(row.queue, None)

    def concern(self, task: str, queue: str) -> bool:
        """True if jobs of this task in this queue have a lane, whatever their task declares."""
        if self.is_empty:
            return False
        key = (task, queue)
        known = self._lanes.get(key)
        if known is None:
            known = self._lanes[key] = bool(
                queue in self.fair or self._queue_flows(queue) or self._task_flows(task)
            )
        return known

    def lane(
        self,
        task: str,
        queue: str,
        arguments: Arguments,
        declared: Declared | None,
        explicit: tuple[str, ...] | None,
    ) -> str | None:
        """The lane of a job; ``explicit``: the gates that its message has instead of its task's."""
        gates = [*explicit] if explicit is not None else []
        flows = self._queue_flows(queue)
        if explicit is None:
            if declared is None:
                flows = [*flows, *self._task_flows(task)]
            else:
                gates += [self._gate(gate, arguments) for gate in declared.gates]
                known = {gate.flow for gate in declared.gates}
                flows = [
                    *flows,
                    *(
                        each
                        for each in self._task_flows(task)
                        if each.source == HAND and each.flow not in known
                    ),
                ]
        gates += [gate_name(each.flow, _key(each.by, arguments)) for each in flows]
        path = self.fair.get(queue)
        return lane_text(gates, None if path is None else key_text(arguments.find(path)))

    def _gate(self, gate: Gate, arguments: Arguments) -> str:
        """The gate of a flow that the code declares; a rule by hand may count by another."""
        by = self.by_hand.get(gate.flow, gate.by)
        if by in (gate.by, FUNCTION):
            return gate_name(gate.flow, gate.key)
        return gate_name(gate.flow, _key(by, arguments))

    def _task_flows(self, task: str) -> list[FlowBy]:
        return self._flows(TASK, task)

    def _queue_flows(self, queue: str) -> list[FlowBy]:
        found = {each.flow: each for each in self._own.get(queue, ())}
        found.update({each.flow: each for each in self._flows(QUEUE, queue)})
        return list(found.values())

    def _flows(self, of: str, name: str) -> list[FlowBy]:
        flows = [flow_name(kind, of, name) for kind in (RATE, RUNNING)]
        return [
            FlowBy(flow, HAND if flow in self.by_hand else "code", self.by[flow])
            for flow in flows
            if flow in self.by
        ]


class KnownRules:
    """The rules of one database, as this process knows them. Thread-safe."""

    def __init__(self) -> None:
        #: By the app whose settings they contain: of several in one program each has its own.
        self._rules: WeakKeyDictionary[Any, Rules] = WeakKeyDictionary()
        self._stored: tuple[list[FlowBy], list[QueueRow]] = ([], [])
        self._latest = Rules({}, [], [])
        #: The app of the latest rules; None in a program without one.
        self._app: Any = UNKNOWN
        self._fresh_until = 0.0
        #: How often they had been changed here when they were read.
        self._changes = -1
        self._lock = threading.Lock()
        #: The rules of calls that were registered from here.
        self.named: set[Any] = set()
        #: The known depths of queues, see :mod:`pgjobs_celery.publishing.admission`.
        self.rooms: Any = None

    @property
    def depths(self) -> Mapping[str, Depth]:
        """The queues that may be full, as known by now."""
        return self._latest.depths

    def current(self, database: Database) -> Rules:
        """The rules, at most some seconds old."""
        app = program_app()
        if not self._is_fresh(database):
            self._refresh(database)
        if app is not self._app:
            self._latest, self._app = self._of(app), app
        return self._latest

    def _is_fresh(self, database: Database) -> bool:
        return time.monotonic() < self._fresh_until and self._changes == database.rules_changes

    def _refresh(self, database: Database) -> None:
        caller = database.find_point().caller
        if caller is not None and not caller.can_execute:
            return  # on an event loop, where nothing may wait
        if not self._lock.acquire(blocking=self._changes == -1):
            return  # another thread reads them
        try:
            if not self._is_fresh(database):
                self._read(database)
        finally:
            self._lock.release()

    def _read(self, database: Database) -> None:
        self._changes = database.rules_changes
        self._fresh_until = time.monotonic() + AGAIN
        with suppress(*CONNECTION_ERRORS), database.beside():  # which the publisher meets, too
            self._stored = database.flow_rules.list_rules()
            self._fresh_until = time.monotonic() + PERIOD
        self._rules.clear()
        self._app = UNKNOWN

    def _of(self, app: Any) -> Rules:
        """The rules for an app: the database's, and those of its own settings."""
        if app is None:
            return Rules({}, *self._stored)
        rules = self._rules.get(app)
        if rules is None:
            own = read_flow_settings(app.conf).queue_rules
            rules = self._rules[app] = Rules(own, *self._stored)
        return rules

    def expire(self) -> None:
        """Read them anew when they are needed next."""
        self._fresh_until, self._changes = 0.0, -1
        self.named.clear()
        self.rooms = None


_known: WeakKeyDictionary[Database, KnownRules] = WeakKeyDictionary()
# A lock of the parent's may be held for good.
os.register_at_fork(after_in_child=_known.clear)


def known_rules(database: Database) -> KnownRules:
    """The rules of a database."""
    known = _known.get(database)
    if known is None:
        known = _known.setdefault(database, KnownRules())
    return known


def forget_rules() -> None:
    """Read the rules of all databases anew when they are needed next."""
    forget_app()
    for known in list(_known.values()):
        known.expire()


def rate_limits(app: Any) -> str:
    """``pgjobs_rate_limits`` of an app."""
    return read_flow_settings(app.conf).rate_limits


def put_into_lane(
    database: Database, job: NewJob, options: JobOptions, message: Mapping[str, Any]
) -> NewJob:
    """The job with its lane and its cost, where it has any."""
    known = known_rules(database)
    rules = known.current(database)
    declared = find_declared(job.task)
    is_plain = declared is None and options.cost is None and options.gates is None
    if is_plain and not rules.concern(job.task, job.queue):
        return job
    if declared is not None:
        for row in declared.rows:
            if row not in known.named:
                with database.beside():
                    database.flow_rules.name_flow(row)
                known.named.add(row)
    arguments = declared.arguments if declared else read_arguments(message)
    lane = rules.lane(job.task, job.queue, arguments, declared, options.gates)
    cost = options.cost if options.cost is not None or declared is None else declared.cost
    return in_lane(job, lane, cost)


def in_lane(job: NewJob, lane: str | None, cost: int | None) -> NewJob:
    """The job in this lane."""
    return job._replace(
        lane=lane,
        cost=None if cost == 1 else cost,
        priority=laned_priority(rank_of(job.priority), lane),
    )


#: Finds the lane and the cost of a job with these arguments.
Laner = Callable[[Any, Any], tuple[str | None, int | None]]


def find_laner(
    database: Database,
    job: NewJob,
    flow: TaskFlow | None,
    to_arguments: Callable[[Any, Any], Arguments],
) -> Laner | None:
    """For jobs that are made after this one; None where all have its lane."""
    rules = known_rules(database).current(database)
    if flow is None and not rules.concern(job.task, job.queue):
        return None

    def find(args: Any, kwargs: Any) -> tuple[str | None, int | None]:
        arguments = to_arguments(args, kwargs)
        declared = flow.declare(arguments) if flow is not None else None
        lane = rules.lane(job.task, job.queue, arguments, declared, None)
        return lane, declared.cost if declared else job.cost

    return find


def read_arguments(message: Mapping[str, Any]) -> Arguments:
    """The arguments in a message, where it is JSON; none where they cannot be read."""
    headers, body = message["headers"], message["body"]
    found: Any = None
    if message["content-type"] == "application/json":
        try:
            if headers.get("compression"):
                body = decompress(body, headers["compression"])
            found = kombu_json.loads(body)
        except Exception:  # kombu may fail on the value behind a marker
            found = None
    if not (isinstance(found, list) and len(found) == 3):
        return Arguments((), {})
    args, kwargs, _ = found
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, Mapping):
        return Arguments((), {})
    return arguments_of(program_app(), headers["task"], args, kwargs)


def arguments_of(app: Any, task: str, args: Any, kwargs: Any) -> Arguments:
    """The arguments of a job, by the names of its task's parameters where the app has it."""
    own = app.tasks.get(task) if app is not None else None
    if own is None:
        return Arguments(args, kwargs)
    name_arguments = getattr(own, "name_arguments", None)
    if name_arguments is not None:
        return name_arguments(args, kwargs)  # type: ignore[no-any-return]
    return Arguments(args, kwargs, lambda: _named(own, args, kwargs))


def _named(task: Any, args: Any, kwargs: Any) -> Mapping[str, Any] | None:
    try:
        bound = inspect.signature(task.run).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None
    bound.apply_defaults()
    return bound.arguments


def _key(by: str | None, arguments: Arguments) -> str | None:
    if by == FUNCTION:
        return key_text(None)  # only the task's own code has the function
    return find_key("by", by, arguments)
