"""The options by which tasks, calls and settings ask for rates, limits and turns, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any, NamedTuple

from ..errors import InvalidOption, UnknownOption
from .checks import LARGEST_INTEGER, did_you_mean, is_number, is_whole_number
from .flow import (
    BUCKET,
    QUEUE,
    TASK,
    Concurrency,
    FlowRow,
    Rate,
    check_cost,
    check_path,
    find_by_path,
    key_text,
    named_path,
    rate_flow,
    running_flow,
)

#: A queue that is full: raise QueueFull, wait for room, or cancel the job that waits longest.
RAISE, WAIT, DROP_OLDEST = "raise", "wait", "drop_oldest"
ON_FULL = (RAISE, WAIT, DROP_OLDEST)
#: The keys of a queue in ``pgjobs_queues``.
QUEUE_KEYS = ("concurrency", "rate", "fair", "ageing", "max_depth", "on_full", "wait")
#: How long a publisher waits for room, in seconds, where ``wait`` is not given.
FULL_WAIT = 5.0
#: Celery's units of a rate.
_UNITS = {"s": 1, "m": 60, "h": 3600}

#: The arguments by name, however they were passed; None where that is not known.
Named = Mapping[str, Any]


def as_rate(value: Any) -> Rate | None:
    """A rate as a task or setting gives it: "100/m", a number for each second, a Rate, or a dict of
    its fields; None and False are none. Raises InvalidOption and UnknownOption."""
    if value is None or value is False:
        return None
    if isinstance(value, Rate):
        return value
    if isinstance(value, Mapping):
        return Rate(**_known("rate", Rate, value))
    return Rate(value)


def as_concurrency(value: Any) -> Concurrency | None:
    """A limit as a task gives it: a number, a Concurrency, or a dict of its fields; None and False
    are none. Raises InvalidOption and UnknownOption."""
    if value is None or value is False:
        return None
    if isinstance(value, Concurrency):
        return value
    if isinstance(value, Mapping):
        return Concurrency(**_known("concurrency", Concurrency, value))
    return Concurrency(value)


def celery_rate(limit: Any) -> Rate | None:
    """Celery's ``rate_limit`` ("10/m", 0.5, None) as a rate of all workers together.

    A bucket that holds one start, as Celery's own: starts are spread evenly. Raises InvalidOption
    for what Celery cannot read.
    """
    if not limit:
        return None
    number, _, unit = str(limit).partition("/")
    try:
        starts = Fraction(number.strip()).limit_denominator(1_000_000)
        seconds = _UNITS[unit.strip() or "s"]
    except (ValueError, KeyError, ZeroDivisionError):
        raise InvalidOption(f'rate_limit is written "10/m" (s, m or h), not {limit!r}') from None
    if starts <= 0:
        return None
    return Rate(f"{starts.numerator}/{starts.denominator * seconds}s", algorithm=BUCKET, burst=1)


def check_cost_option(cost: Any) -> Any:
    """The tokens of a start: a number, a path of the arguments or a function of them.

    Raises InvalidOption.
    """
    if cost is None or callable(cost):
        return cost
    return check_path("cost", named_path(cost)) if isinstance(cost, str) else check_cost(cost)


class Arguments(NamedTuple):
    """The arguments of one job."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: All of them by the parameters' names; None where nothing knows these.
    named: Callable[[], Named | None] | None = None

    def find(self, path: str) -> Any:
        """The value at a path, whichever way the argument was passed; None where nothing is."""
        root, _, rest = path.partition(".")
        name = rest.partition(".")[0]
        if root == "kwargs" and name not in self.kwargs and self.named is not None:
            return find_by_path(path, self.args, self.named() or {})
        return find_by_path(path, self.args, self.kwargs)


def find_key(what: str, by: Any, arguments: Arguments) -> str | None:
    """The key of a job; None where there is no ``by``. Raises InvalidOption if a function fails.

    A job without the argument has the key "null", as one that has None there.
    """
    if by is None:
        return None
    return key_text(_find(what, by, arguments))


def find_cost(cost: Any, arguments: Arguments) -> int | None:
    """How many tokens a start takes; None for one. Raises InvalidOption."""
    if cost is None or isinstance(cost, int):
        return cost
    found = _find("cost", cost, arguments)
    return None if found is None else check_cost(found)


def _find(what: str, by: Any, arguments: Arguments) -> Any:
    if isinstance(by, str):
        return arguments.find(named_path(by))
    try:
        return by(*arguments.args, **arguments.kwargs)
    except Exception as error:
        raise InvalidOption(
            f"{what}: the function that is given there has failed with the arguments of this job "
            f"({type(error).__name__}: {error}); it is called as the task is"
        ) from error


class TaskFlow(NamedTuple):
    """The rate, the limit and the cost that a task, or a call of it, has."""

    task: str
    rate: Rate | None = None
    concurrency: Concurrency | None = None
    cost: Any = None

    def rows(self) -> list[FlowRow]:
        """The rules, as workers register them."""
        rows = []
        if self.rate is not None:
            rows.append(rate_flow(self.rate, TASK, self.task))
        if self.concurrency is not None:
            rows.append(running_flow(self.concurrency, TASK, self.task))
        return rows

    @property
    def tokens(self) -> Any:
        """The cost: the task's own, or that of its rate."""
        return self.cost if self.cost is not None or self.rate is None else self.rate.cost

    def declare(self, arguments: Arguments) -> Declared:
        """The gates and the cost of a job with these arguments. Raises InvalidOption."""
        gates = []
        for kind, rule in (("rate", self.rate), ("concurrency", self.concurrency)):
            if rule is not None:
                row = (
                    rate_flow(rule, TASK, self.task)
                    if isinstance(rule, Rate)
                    else running_flow(rule, TASK, self.task)
                )
                gates.append(Gate(row.flow, row.by, find_key(kind, rule.by, arguments)))
        cost = find_cost(self.tokens, arguments)
        if cost is not None and self.rate is not None and cost > capacity(self.rate):
            raise InvalidOption(
                f"a start of {self.task} that costs {cost} tokens never fits into its rate "
                f"({self.rate.limit}), which has {capacity(self.rate)} at once: raise the rate, or "
                "make smaller jobs"
            )
        return Declared(self.task, tuple(gates), None if cost == 1 else cost, arguments)


class Gate(NamedTuple):
    """A flow that a job has to pass, and its key there."""

    flow: str
    by: str | None
    key: str | None


class Declared(NamedTuple):
    """The gates, the cost and the arguments of a job, as its task declares them."""

    task: str
    gates: tuple[Gate, ...]
    cost: int | None
    arguments: Arguments
    #: Rules that this call alone names: no worker registers them.
    rows: tuple[FlowRow, ...] = ()


def capacity(rate: Rate) -> int:
    """The most tokens that a start can take at once."""
    if rate.algorithm == BUCKET:
        return rate.burst or rate.amount
    return rate.amount


class QueueRules(NamedTuple):
    """The rules of a queue in ``pgjobs_queues``."""

    #: The most of its jobs that one worker runs at once; None for any number.
    workers: int | None = None
    rate: Rate | None = None
    concurrency: Concurrency | None = None
    #: The path of the arguments whose values take turns.
    fair: str | None = None
    ageing: float | None = None
    max_depth: int | None = None
    on_full: str = RAISE
    #: How long a publisher waits for room, in seconds.
    full_wait: float = FULL_WAIT

    @property
    def choice(self) -> str | None:
        """``on_full`` of a queue that may be full; None of any other."""
        return None if self.max_depth is None else self.on_full

    def rows(self, queue: str) -> list[FlowRow]:
        """The rules, as workers register them."""
        rows = []
        if self.rate is not None:
            rows.append(rate_flow(self.rate, QUEUE, queue))
        if self.concurrency is not None:
            rows.append(running_flow(self.concurrency, QUEUE, queue))
        return rows


def read_queue_rules(name: str, value: Any) -> QueueRules:
    """The rules of a queue: how many of its jobs a worker runs at once, or a dict of rules.

    Raises InvalidOption and UnknownOption.
    """
    where = f"pgjobs_queues[{name!r}]"
    if not isinstance(value, Mapping):
        return QueueRules(workers=_workers(where, name, value))
    for key in value:
        if key not in QUEUE_KEYS:
            near = did_you_mean(str(key), QUEUE_KEYS) or f": it takes {', '.join(QUEUE_KEYS)}"
            raise UnknownOption(f"{where} has no key {key!r}{near}")
    try:
        return _read_queue_rules(where, name, value)
    except (InvalidOption, UnknownOption) as error:
        text = str(error)
        raise type(error)(text if text.startswith(where) else f"{where}: {text}") from None


def _read_queue_rules(where: str, name: str, value: Mapping[str, Any]) -> QueueRules:
    limit = value.get("concurrency")
    is_shared = isinstance(limit, (Concurrency, Mapping))
    rate = as_rate(value.get("rate"))
    concurrency = as_concurrency(limit) if is_shared else None
    for rule in (rate, concurrency):
        if rule is not None and callable(rule.by):
            raise InvalidOption(
                "by is a path here, for workers sort by it what other programs publish; a task's "
                "rate or concurrency may have a function"
            )
    if rate is not None and rate.cost != 1:
        raise InvalidOption("a cost is the task's, or the call's: give it there")
    fair, ageing, depth = value.get("fair"), value.get("ageing"), value.get("max_depth")
    if ageing is not None and not (is_number(ageing) and 0 < ageing < float("inf")):
        raise InvalidOption(f"ageing must be seconds above 0, not {ageing!r}")
    if ageing is not None and fair is None:
        raise InvalidOption("ageing is for a fair queue: say fair as well")
    on_full, wait = check_full(depth, value.get("on_full", RAISE), value.get("wait"))
    return QueueRules(
        workers=None if is_shared or limit is None else _workers(where, name, limit),
        rate=rate,
        concurrency=concurrency,
        fair=None if fair is None else check_path("fair", named_path(fair)),
        ageing=None if ageing is None else float(ageing),
        max_depth=depth,
        on_full=on_full,
        full_wait=wait,
    )


def check_full(max_depth: Any, on_full: Any = RAISE, wait: Any = None) -> tuple[str, float]:
    """The choice of a full queue, and how many seconds a publisher waits. Raises InvalidOption."""
    if max_depth is not None and not is_whole_number(max_depth, 1, LARGEST_INTEGER):
        raise InvalidOption(f"max_depth must be a whole number from 1, or None, not {max_depth!r}")
    if on_full not in ON_FULL:
        near = did_you_mean(str(on_full), ON_FULL)
        raise InvalidOption(
            f"on_full must be {', '.join(map(repr, ON_FULL))}, not {on_full!r}{near}"
        )
    if wait is not None and not (is_number(wait) and 0 <= wait < float("inf")):
        raise InvalidOption(f"wait must be seconds from 0, not {wait!r}")
    return str(on_full), FULL_WAIT if wait is None else float(wait)


def _workers(where: str, name: str, value: Any) -> int:
    if not is_whole_number(value, 1):
        raise InvalidOption(
            f"{where} must be a whole number from 1, or a dict of rules, not {value!r}; "
            f"`celery pgjobs pause {name}` has no job of the queue run"
        )
    return value


def _known(what: str, kind: type, given: Mapping[Any, Any]) -> dict[str, Any]:
    known = [each.name for each in fields(kind)]
    for name in given:
        if name not in known:
            raise UnknownOption(f"{what} has no option {name!r}{did_you_mean(str(name), known)}")
    return dict(given)


def check_gates(gates: Any) -> tuple[str, ...]:
    """Gates in a header. Raises InvalidOption."""
    if isinstance(gates, str) or not isinstance(gates, Iterable):
        raise InvalidOption(f"gates must be a list of texts, not {gates!r}")
    checked = tuple(gates)
    for gate in checked:
        if not isinstance(gate, str) or not gate.startswith(("rate/", "running/")):
            raise InvalidOption(
                f'a gate is written "rate/stripe" or "running/stripe=7", not {gate!r}'
            )
        if not gate.isprintable() or len(gate.encode("utf-8", "replace")) > LONGEST_GATE:
            raise InvalidOption(
                f"a gate is printable and has {LONGEST_GATE} bytes at most: {gate[:40]!r}"
            )
    if len(checked) > MOST_GATES:
        raise InvalidOption(f"a job may have {MOST_GATES} gates of its own, not {len(checked)}")
    return checked


#: The longest gate in a header, in bytes, and the most of them: they go into an index.
LONGEST_GATE, MOST_GATES = 300, 4
