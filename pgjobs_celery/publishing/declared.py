"""Carry what a task declares of rates and limits to where its message is published."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from ..job.flow import gate_name, lane_text
from ..job.flow_options import Declared
from ..job.options import JobOptions

T = TypeVar("T")

_declared: ContextVar[Declared | None] = ContextVar("pgjobs_declared", default=None)


def declaring(declared: Declared, call: Callable[[], T]) -> T:
    """``call()``, which publishes a job with these gates."""
    token = _declared.set(declared)
    try:
        return call()
    finally:
        _declared.reset(token)


def find_declared(task: str) -> Declared | None:
    """The rules of a job of this task that is being published here; None for none.

    A handler of a signal may publish another one meanwhile.
    """
    declared = _declared.get()
    return declared if declared is not None and declared.task == task else None


def declared_lane(task: str, options: JobOptions) -> tuple[str | None, int | None]:
    """The lane and the cost that a job has by its task and its call alone."""
    declared = find_declared(task)
    gates = options.gates
    if gates is None and declared is not None:
        gates = tuple(gate_name(each.flow, each.key) for each in declared.gates)
    cost = options.cost if options.cost is not None or declared is None else declared.cost
    return lane_text(gates or ()), None if cost == 1 else cost
