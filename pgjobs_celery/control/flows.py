"""``flows(app)``: the rates and limits of tasks, queues and names; and pauses of jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..config import check_queue_name
from ..db.database import Database
from ..errors import InvalidOption
from ..job.checks import LARGEST_INTEGER, is_whole_number
from ..job.flow import (
    BUCKET,
    GLOBAL,
    HAND,
    QUEUE,
    RATE,
    RUNNING,
    WINDOW,
    Concurrency,
    FlowRow,
    Rate,
    flow_name,
    key_text,
    rate_flow,
    running_flow,
)  # fmt: skip
from ..job.pauses import KEY, KINDS, TAG, TASK, Pause
from ..job.spelling import write_duration
from ..maintenance.resume import unpark
from .acting import begin_action
from .app import database_of
from .filters import text
from .keys import check_keys
from .until import read_until

if TYPE_CHECKING:
    from ..db.rows.rules import GateRow, PauseRow, WaitingRow

#: The names that a flow may have.
_FLOW = re.compile(r"(rate|running)/(?:(task|queue)/(.+)|([^/]+))", re.DOTALL)
#: How many keys of a flow are shown.
KEYS = 20


@dataclass(frozen=True)
class KeyState:
    """One key of a flow, or all of a flow without keys."""

    #: None for a flow that does not count by key.
    key: str | None
    #: How many starts of the period, or running jobs, are counted.
    used: int = 0
    #: How many more may begin now; None for any number.
    free: int | None = None
    #: In how many seconds the next may begin, of a rate; None where only the end of a job frees it.
    next_in: float | None = 0.0
    #: How many jobs wait for it.
    waiting: int = 0


@dataclass(frozen=True)
class Flow:
    """A rule, and how it stands."""

    #: ``rate/task/<task>``, ``running/queue/<queue>``, ``rate/<name>``.
    name: str
    #: ``100/m``, or how many may run at once; None for any number.
    limit: str | int | None
    #: The path by whose values it counts; None for all jobs together; () for a function.
    by: str | None = None
    burst: int | None = None
    algorithm: str = WINDOW
    #: ``global``, or ``worker`` for each worker by itself.
    scope: str = GLOBAL
    #: ``code``, or ``hand``: set at run time, which counts until it is reset.
    source: str = HAND
    #: The busiest keys; of a flow without keys the one that stands for it.
    keys: tuple[KeyState, ...] = ()
    #: How many keys are in use.
    keys_in_use: int = 0
    #: How many jobs wait for it, at all keys.
    waiting: int = 0
    #: More jobs wait than were counted.
    is_cut: bool = False

    @property
    def kind(self) -> str:
        """``rate`` or ``running``."""
        return self.name.partition("/")[0]

    @property
    def used(self) -> int:
        """How many starts, or running jobs, are counted: of the busiest key."""
        return max((each.used for each in self.keys), default=0)


class Flows:
    """The rules of a database, and its pauses of tasks, tags and keys."""

    def __init__(self, database: Database, app: Any = None) -> None:
        self._database = database
        self._rules = database.rules
        self._app = app

    def __iter__(self) -> Iterator[Flow]:
        """All rules, by name, each with its busiest keys."""
        rules = self._rules.list_rules()
        used, waiting = self._rules.look_at_gates(limit=KEYS), self._rules.count_waiting()
        return iter([_join(rule, used, waiting) for rule in rules])

    def get(self, name: str, keys: int = KEYS) -> Flow | None:
        """A rule with so many of its busiest keys; None where there is none of this name."""
        flow = read_flow(name)
        rules = self._rules.list_rules([flow])
        if not rules:
            return None
        used = self._rules.look_at_gates([flow], keys)
        return _join(rules[0], used, self._rules.count_waiting([flow]), keys)

    def set(
        self,
        name: str,
        limit: str | int | None,
        *,
        by: str | None = None,
        burst: int | None = None,
        algorithm: str | None = None,
        scope: str = GLOBAL,
    ) -> None:
        """Set a rule by hand: a rate ("100/m") or how many may run at once; None for any number.

        It counts for what begins from now on, before the rule of the code, until :meth:`reset`.
        ``burst`` makes a bucket of a rate. A rule of a task or of a name holds for jobs whose
        publisher knew that they have one. Raises InvalidOption for values that cannot be used.
        """
        flow = read_flow(name)
        rule = read_rule(flow, limit, by=by, burst=burst, algorithm=algorithm, scope=scope)
        known = {"flow": flow, "limit": limit, "by": by, "burst": burst, "algorithm": algorithm}
        details = {word: value for word, value in known.items() if value is not None}
        if scope != GLOBAL:
            details["scope"] = scope
        action = begin_action("set_flow", self._app, queue=queue_of(flow), details=details)
        self._rules.set_rule(rule, action)

    def change(
        self, name: str, limit: str | int | None, *, by: str | None, burst: int | None = None
    ) -> None:
        """As :meth:`set`, for a form with these fields: the rule keeps what it has besides.

        That is its scope and, unless a burst comes or goes, its algorithm.
        """
        rules = self._rules.list_rules([read_flow(name)])
        rule = rules[0] if rules else None
        algorithm = None
        if rule is not None and rule.period is not None and (burst is None) == (rule.burst is None):
            algorithm = rule.algorithm
        scope = GLOBAL if rule is None else rule.scope
        self.set(name, limit, by=by, burst=burst, algorithm=algorithm, scope=scope)

    def reset(self, name: str) -> bool:
        """Let the rule of the code count again; False if none was set by hand."""
        flow = read_flow(name)
        details = {"flow": flow}
        action = begin_action("reset_flow", self._app, queue=queue_of(flow), details=details)
        return self._rules.reset_rule(flow, action)

    def pause(
        self,
        *,
        task: Any = None,
        tag: str | None = None,
        key: Any = None,
        queue: str | None = None,
        until: datetime | timedelta | float | None = None,
    ) -> None:
        """Let no job of a task, with a tag, or of a key of a queue begin: until a time, if given.

        Jobs that run go on. Workers that listen hear of it at once; one that polls may begin jobs
        for a second. ``key`` is a value by which the queue is fair, or has a rate or a limit. A
        worker resumes at the time. Raises InvalidOption unless one of the three is given, and for
        a key of a queue whose jobs have none.
        """
        paused, end = read_pause(task, tag, key, queue), read_until(until)
        if paused.kind == KEY:
            check_keys(self._database, self._app, paused.queue)
        action = self._action("pause_jobs", paused, **end.data)
        self._rules.pause_jobs(*paused, end.until, end.seconds, action)

    def resume(
        self,
        *,
        task: Any = None,
        tag: str | None = None,
        key: Any = None,
        queue: str | None = None,
    ) -> bool:
        """Let them begin again, each at its place in line; False if they were not paused.

        Jobs that workers have put aside meanwhile are put back before this returns, in batches; a
        worker does what is left if it ends early.
        """
        paused = read_pause(task, tag, key, queue)
        was_paused = self._rules.resume_jobs(*paused, self._action("resume_jobs", paused))
        while unpark(self._database):
            pass  # until nothing is left
        return was_paused

    def pauses(self) -> list[PauseRow]:
        """The pauses of tasks, tags and keys that hold; those of queues are told by queues(app)."""
        return self._rules.list_pauses()

    def _action(self, name: str, paused: Pause, **details: Any) -> Any:
        details = {paused.kind: paused.name, **details}
        return begin_action(name, self._app, queue=paused.queue or None, details=details)


def flows(app: Any) -> Flows:
    """The rules of a Celery app's jobs: in the database of its broker, or else of its backend.

    Raises PgJobsError if neither is one of ours.

    >>> flows(app).set("rate/queue/mail", "100/m", by="kwargs.tenant_id")
    >>> flows(app).get("rate/queue/mail").limit
    '100/m'
    """
    return Flows(app if isinstance(app, Database) else database_of(app), app)


def read_flow(name: Any) -> str:
    """The name of a flow as the database has it. Raises InvalidOption."""
    match = _FLOW.fullmatch(text("the name of a flow", name))
    if match is None:
        raise InvalidOption(
            "a flow is called rate/task/<task>, rate/queue/<queue> or rate/<name>, or the same with"
            f" running/, not {name!r}"
        )
    kind, of, one, own = match.groups()
    return flow_name(kind, of, one) if of else flow_name(kind, own)


def read_rule(
    flow: str,
    limit: Any,
    *,
    by: str | None = None,
    burst: int | None = None,
    algorithm: str | None = None,
    scope: str = GLOBAL,
) -> FlowRow:
    """The rule of a flow that is set by hand. Raises InvalidOption."""
    if callable(by):
        raise InvalidOption("by is a path here, such as kwargs.tenant_id, not a function")
    if flow.startswith(f"{RATE}/"):
        chosen = algorithm or (WINDOW if burst is None else BUCKET)
        rate = Rate("1" if limit is None else limit, by, burst, chosen, scope=scope)
        row = rate_flow(rate, QUEUE, "")
    else:
        if isinstance(limit, str) and limit.isascii() and limit.isdigit():
            limit = int(limit)
        if burst is not None or algorithm is not None:
            raise InvalidOption("burst and algorithm are for a rate, not for how many run at once")
        if limit is not None and not is_whole_number(limit, 0, LARGEST_INTEGER):
            raise InvalidOption(
                f"{flow} says how many run at once: a whole number from 0, or None, not {limit!r}"
            )
        row = running_flow(Concurrency(limit or 0, by, scope), QUEUE, "")
    amount = None if limit is None else row.amount
    return row._replace(flow=flow, amount=amount, source=HAND)


def read_key(key: Any) -> str:
    """A key as lanes have it. Raises InvalidOption."""
    if key is None or key == "":
        raise InvalidOption(f"a key cannot be {key!r}")
    return key_text(key if not isinstance(key, str) else text("key", key))


def read_pause(task: Any, tag: Any, key: Any, queue: Any) -> Pause:
    """The jobs that are meant. Raises InvalidOption."""
    if sum(each is not None for each in (task, tag, key)) != 1:
        raise InvalidOption("name one of task, tag and key; queues(app) pauses a whole queue")
    if key is not None:
        if queue is None:
            raise InvalidOption("a key is one of a queue: give queue as well")
        return Pause(KEY, read_key(key), check_queue_name(queue))
    if queue is not None:
        raise InvalidOption("queue goes with key alone: a task or a tag is paused in all queues")
    if task is not None:
        return Pause(TASK, _filled("task", getattr(task, "name", task)))
    return Pause(TAG, _filled("tag", tag))


def queue_of(flow: str) -> str | None:
    """The queue that a flow belongs to; None for one of a task or of a name."""
    _, of, name = [*flow.split("/", 2), ""][:3]
    return name if of == QUEUE and name else None


def write_limit(rule: FlowRow) -> str | int | None:
    """``100/m``, ``7/10s``, or how many at once; None for any number."""
    if rule.amount is None or rule.period is None:
        return rule.amount
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if rule.period == size:
            return f"{rule.amount}/{unit}"
    spelled = write_duration(rule.period)
    return f"{rule.amount}/{spelled if spelled[-1].isalpha() else spelled + 's'}"


def _filled(name: str, value: Any) -> str:
    word = text(name, value)
    if not word:
        raise InvalidOption(f"{name} must not be empty")
    return word


def _join(
    rule: FlowRow, used: Iterable[GateRow], waiting: Sequence[WaitingRow], most: int = KEYS
) -> Flow:
    # Of several workers by themselves the first, which uses most.
    gates = {each.gate: each for each in reversed([*used]) if each.flow == rule.flow}
    lines = {each.gate: each for each in waiting if each.flow == rule.flow}
    shown = sorted(
        gates.keys() | lines.keys(),
        key=lambda gate: (
            -(lines[gate].jobs if gate in lines else 0),
            -(gates[gate].used if gate in gates else 0),
            gate,
        ),
    )
    keys = tuple(_key(rule, gate, gates.get(gate), lines.get(gate)) for gate in shown[:most])
    if rule.by is None and not keys:
        keys = (_key(rule, rule.flow, None, None),)
    return Flow(
        rule.flow,
        write_limit(rule),
        rule.by,
        rule.burst,
        rule.algorithm,
        rule.scope,
        rule.source,
        keys,
        max((each.gates for each in gates.values()), default=0),
        sum(each.jobs for each in lines.values()),
        any(each.is_cut for each in lines.values()),
    )


def _key(rule: FlowRow, gate: str, used: GateRow | None, line: WaitingRow | None) -> KeyState:
    count = used.used if used else 0
    most = rule.burst if rule.algorithm == BUCKET and rule.burst is not None else rule.amount
    free = None if most is None else max(0, most - count)
    is_shut = free == 0
    next_in: float | None = used.next_in if used and is_shut else 0.0
    if is_shut and (rule.period is None or not rule.amount):
        next_in = None
    key = gate.partition("=")[2] if "=" in gate else None
    return KeyState(key, count, free, next_in, line.jobs if line else 0)


__all__ = ["KINDS", "RUNNING", "Flow", "Flows", "KeyState", "flows"]
