"""Flow control as values: rates, limits, and the names of flows, gates and lanes.

A *flow* is a rule under a name: ``rate/task/<task>``, ``running/queue/<queue>``, ``rate/stripe``. A
*gate* is a flow, or a flow and a key (``rate/task/mail=7``): what is counted by itself. A *lane* is
the text that jobs with the same gates and the same share of a fair queue have in common; it is
computed where a job is published, and stored in its row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InvalidOption
from .checks import LARGEST_INTEGER, is_number, is_whole_number
from .rows import HIGHEST_RANK

#: How far a job's priority is above its rank while it stands in a lane.
LANE_RANK = HIGHEST_RANK + 1
#: The line of a lane that names its share, up to the key.
SHARE = "share="
#: The longest key, and the longest name of a flow, in bytes: a longer one is hashed. Several must
#: fit into an entry of an index (2,704 bytes).
LONGEST_KEY, LONGEST_FLOW = 100, 200
#: The most gates of a job, for the same reason.
MOST_GATES = 8

RATE, RUNNING, PAUSE = "rate", "running", "pause"
TASK, QUEUE = "task", "queue"
WINDOW, BUCKET = "window", "bucket"
GLOBAL, WORKER = "global", "worker"
CODE, HAND = "code", "hand"

#: Celery's units of a rate, and the day.
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RATE = re.compile(r"\s*(\d+)\s*(?:/\s*(\d+(?:\.\d+)?)?\s*([smhd])?\s*)?")
#: The longest period, in seconds: a year and a day.
LONGEST_PERIOD = 366 * 86_400.0
#: A path: where in the arguments a key is found.
_PATH = re.compile(r"(args\.\d+|kwargs\.[^.]+)(\.[^.]+)*")
_UNSAFE = re.compile(r"[%=\x00-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Rate:
    """At most so many starts in a period, on all workers together.

        @app.task(base=PgTask, rate=Rate("100/m", by="kwargs.tenant_id"))

    Raises InvalidOption for a value without a meaning.
    """

    #: "100/m": how many in a second (s), minute (m), hour (h) or day (d); "100/10s": in 10 s.
    limit: str
    #: The path of the arguments by which each value has a rate of its own, or a function that is
    #: called with them at publish.
    by: Any = None
    #: Of a bucket: how many starts it holds when it is full; None for as many as ``limit`` says.
    burst: int | None = None
    #: "window": never more in any period of that length. "bucket": refilled evenly.
    algorithm: str = WINDOW
    #: How many tokens a start takes: a number, an argument's name or path, or a function that is
    #: called with the arguments.
    cost: Any = 1
    #: Tasks and queues that give the same name share one rate.
    name: str | None = None
    #: "global" for all workers together, "worker" for each by itself.
    scope: str = GLOBAL

    def __post_init__(self) -> None:
        parse_rate(self.limit)
        _set_by("rate", self)
        _check_one_of("algorithm", self.algorithm, (WINDOW, BUCKET))
        _check_one_of("scope", self.scope, (GLOBAL, WORKER))
        if self.burst is not None:
            if not is_whole_number(self.burst, 1, LARGEST_INTEGER):
                raise InvalidOption(f"burst must be a whole number from 1 on, not {self.burst!r}")
            if self.algorithm == WINDOW:
                raise InvalidOption('burst is for a bucket: say algorithm="bucket" as well')
        if isinstance(self.cost, str):
            object.__setattr__(self, "cost", check_path("cost", named_path(self.cost)))
        elif not callable(self.cost):
            check_cost(self.cost)
        _check_name(self.name)

    @property
    def amount(self) -> int:
        """How many starts."""
        return parse_rate(self.limit)[0]

    @property
    def period(self) -> float:
        """In how many seconds."""
        return parse_rate(self.limit)[1]


@dataclass(frozen=True)
class Concurrency:
    """At most so many at once: ``Concurrency(1, by="kwargs.customer_id")``.

    Raises InvalidOption for a value without a meaning.
    """

    amount: int
    #: As :attr:`Rate.by`.
    by: Any = None
    #: "global" for all workers together, "worker" for each by itself.
    scope: str = GLOBAL
    #: Tasks and queues that give the same name share one limit.
    name: str | None = None

    def __post_init__(self) -> None:
        if not is_whole_number(self.amount, 0, LARGEST_INTEGER):
            raise InvalidOption(f"concurrency must be a whole number, not {self.amount!r}")
        _set_by("concurrency", self)
        _check_one_of("scope", self.scope, (GLOBAL, WORKER))
        _check_name(self.name)


class FlowRow(NamedTuple):
    """A rule, as it stands in ``flows``."""

    flow: str
    #: How many starts in a period, or how many at once; None for any number.
    amount: int | None
    #: In seconds; None for what limits how many run at once.
    period: float | None = None
    #: A path; "()" for a function.
    by: str | None = None
    burst: int | None = None
    algorithm: str = WINDOW
    scope: str = GLOBAL
    source: str = CODE


class Lane(NamedTuple):
    """The parts of a lane's text."""

    gates: tuple[str, ...]
    #: The key of a fair queue; None in one that is not fair.
    share: str | None = None


def parse_rate(limit: Any) -> tuple[int, float]:
    """How many, and in how many seconds: "100/m" is (100, 60.0). A number is per second.

    The units are Celery's (s, m, h) and d for a day. Raises InvalidOption.
    """
    if is_whole_number(limit, 0, LARGEST_INTEGER):
        return int(limit), 1.0
    match = _RATE.fullmatch(limit) if isinstance(limit, str) else None
    if match is None or int(match[1]) > LARGEST_INTEGER:
        raise InvalidOption(f'a rate is written "100/m" (s, m, h or d) or "100/10s", not {limit!r}')
    period = float(match[2] or 1) * _UNITS[match[3] or "s"]
    if not 0 < period <= LONGEST_PERIOD:
        raise InvalidOption(f"the period of a rate is at most a year, not that of {limit!r}")
    return int(match[1]), period


def check_cost(cost: Any) -> int:
    """How many tokens a start takes. Raises InvalidOption."""
    if not is_whole_number(cost, 0, LARGEST_INTEGER):
        raise InvalidOption(f"cost must be a whole number, not {cost!r}")
    return int(cost)


def flow_name(kind: str, of: str, name: str | None = None) -> str:
    """The name of a flow: of ``rate`` or ``running``, for ``task`` or ``queue`` and its name, or a
    name of its own.

    >>> flow_name("rate", "task", "shop.mail"), flow_name("running", "stripe")
    ('rate/task/shop.mail', 'running/stripe')
    """
    text = f"{kind}/{of}" if name is None else f"{kind}/{of}/{name}"
    text = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", text)
    return _shortened(text, LONGEST_FLOW)


def queue_part(queue: str) -> str:
    """A queue's name, as it stands in the names of its flows."""
    return flow_name("", QUEUE, queue).split("/", 2)[2]


def rate_flow(rate: Rate, of: str, name: str) -> FlowRow:
    """The rule of a task's or queue's rate."""
    flow = flow_name(RATE, rate.name) if rate.name else flow_name(RATE, of, name)
    return FlowRow(
        flow, rate.amount, rate.period, _by_text(rate.by), rate.burst, rate.algorithm, rate.scope
    )


def running_flow(limit: Concurrency, of: str, name: str) -> FlowRow:
    """The rule of a task's or queue's limit of how many run at once."""
    flow = flow_name(RUNNING, limit.name) if limit.name else flow_name(RUNNING, of, name)
    return FlowRow(flow, limit.amount, by=_by_text(limit.by), scope=limit.scope)


def key_text(value: Any) -> str:
    """A key as text: a string as it is, anything else as JSON; hashed if it is long.

    >>> key_text("7"), key_text(7), key_text(None)
    ('7', '7', 'null')
    """
    text = value if isinstance(value, str) else json.dumps(
        value, ensure_ascii=False, sort_keys=True, default=str
    )  # fmt: skip
    text = text.encode("utf-8", "replace").decode("utf-8")
    if _CONTROL.search(text):
        return _hashed(text)
    return _shortened(text, LONGEST_KEY)


def gate_name(flow: str, key: str | None = None) -> str:
    """The gate of a flow, for one key where it counts by key."""
    return flow if key is None else f"{flow}={key}"


def flow_of(gate: str) -> str:
    """The flow that a gate belongs to."""
    return gate.partition("=")[0]


def lane_text(gates: Iterable[str], share: str | None = None) -> str | None:
    """The text that jobs with these gates and this share have in common; None for neither."""
    lines = sorted(set(gates))
    if share is not None:
        lines.append(SHARE + share)
    return "\n".join(lines) or None


def read_lane(text: str | None) -> Lane:
    """The parts of a lane's text; whatever it is."""
    lines = (text or "").split("\n")
    shares = [line[len(SHARE) :] for line in lines if line.startswith(SHARE)]
    gates = tuple(line for line in lines if line and not line.startswith(SHARE))
    return Lane(gates, shares[0] if shares else None)


def laned_priority(rank: int, lane: str | None) -> int:
    """The priority of a job of this rank, as its row has it."""
    return rank if lane is None else rank + LANE_RANK


def rank_of(priority: int) -> int:
    """The rank of a job by the priority of its row: people see this."""
    return priority & HIGHEST_RANK


def find_by_path(path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The value at "args.0" or "kwargs.order.customer"; None where nothing is."""
    root, *steps = path.split(".")
    found: Any = args if root == "args" else kwargs
    for step in steps:
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, Sequence) and not isinstance(found, (str, bytes)) and step.isdigit():
            found = found[int(step)] if int(step) < len(found) else None
        else:
            return None
    return found


def check_path(what: str, path: Any) -> str:
    """A path into the arguments. Raises InvalidOption."""
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise InvalidOption(
            f'{what} by an argument is written "tenant_id", "kwargs.tenant_id" or "args.0", or is '
            f"a function of the arguments, not {path!r}"
        )
    return path


def check_weight(weight: Any) -> float:
    """How many turns a key has where others have one. Raises InvalidOption."""
    if not is_number(weight) or not 0 < weight < float("inf"):
        raise InvalidOption(f"a weight is a number above 0, not {weight!r}")
    return float(weight)


def _by_text(by: Any) -> str | None:
    return by if by is None or isinstance(by, str) else "()"


def named_path(by: Any) -> Any:
    """A parameter's name as the path to it, "tenant_id" as "kwargs.tenant_id"; anything else as it
    is."""
    return f"kwargs.{by}" if isinstance(by, str) and by.isidentifier() else by


def _set_by(what: str, rule: Any) -> None:
    if rule.by is not None and not callable(rule.by):
        object.__setattr__(rule, "by", check_path(what, named_path(rule.by)))


def _check_one_of(what: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidOption(f"{what} is {' or '.join(map(repr, known))}, not {value!r}")


def _check_name(name: Any) -> None:
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise InvalidOption(f"the name of a rate or limit is a text without '/', not {name!r}")


def _shortened(text: str, longest: int) -> str:
    data = text.encode("utf-8")
    if len(data) <= longest:
        return text
    return data[: longest - 33].decode("utf-8", "ignore") + "#" + _hashed(text)[1:]


def _hashed(text: str) -> str:
    return "#" + hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
