"""A task whose jobs have rates and limits: read once, and found for each job at publish."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidOption
from ..job.flow import GLOBAL, check_cost, gate_name
from ..job.flow_options import (
    Arguments,
    Declared,
    TaskFlow,
    as_concurrency,
    as_rate,
    celery_rate,
    check_cost_option,
)
from ..job.options import FLOW_NAMES
from ..publishing.laning import rate_limits
from .attempts import AttemptedTask

#: Options of a call for which a job has to be looked at by itself.
FLOW_OPTIONS = frozenset({*FLOW_NAMES, "cost"})


class LimitedTask(AttemptedTask):
    """The part of :class:`~pgjobs_celery.PgTask` that knows rates and limits."""

    #: How many of its jobs begin in a period, on all workers together: "100/m", a Rate, or None for
    #: any number.
    rate: Any = None

    #: How many of its jobs run at once, on all workers together: a number, a Concurrency, or None
    #: for any number.
    concurrency: Any = None

    #: How many tokens of its rates a start takes: a number, a path of the arguments, or a function
    #: of them; None for 1.
    cost: Any = None

    #: The three above; None where there is neither.
    _flow: TaskFlow | None = None
    #: The parameters of ``run``, once they were needed.
    _signature: inspect.Signature | None = None

    def _declare(self, given: dict[str, Any], header: Any, args: Any, kwargs: Any) -> Declared:
        """The gates and the cost of a job with these arguments; those of its call in ``header``."""
        flow = self._flow or TaskFlow(self.name)
        for name, read in (("rate", as_rate), ("concurrency", as_concurrency)):
            if name in given:
                flow = flow._replace(**{name: _named(name, read(given[name]))})
        if "cost" in given:
            flow = flow._replace(cost=check_cost_option(given["cost"]))
        elif header.get("cost") is not None:
            flow = flow._replace(cost=check_cost(header["cost"]))
        declared = flow.declare(self.name_arguments(args, kwargs))
        if not given.keys().isdisjoint(FLOW_NAMES):
            header["gates"] = [gate_name(gate.flow, gate.key) for gate in declared.gates]
            declared = declared._replace(rows=tuple(flow.rows()))
        if "cost" in given:
            header["cost"] = 1 if declared.cost is None else declared.cost
        return declared

    def name_arguments(self, args: Any, kwargs: Any) -> Arguments:
        """The arguments of a job, to be found by the names of the parameters as well."""
        args, kwargs = args or (), kwargs or {}

        def named() -> Mapping[str, Any] | None:
            bound = self._bind(args, kwargs)
            return None if bound is None else bound[0]

        return Arguments(args, kwargs, named)

    def _bind(self, args: Any, kwargs: Any) -> tuple[dict[str, Any], bool] | None:
        """The arguments by name, and whether there may be any other; None if they do not fit."""
        signature = self._signature
        if signature is None:  # asked for once: it takes longer than all the rest
            signature = type(self)._signature = inspect.signature(self.run)
        try:
            bound = signature.bind(*(args or ()), **(kwargs or {}))
        except TypeError:  # without typing Celery publishes them all the same
            return None
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments.update(arguments.pop(parameter.name))
                return arguments, True
        return arguments, False


def read_flow(cls: type[LimitedTask]) -> None:
    """Read what the class declares of rate, limit and cost. Raises InvalidOption."""
    cls.rate, cls.concurrency = as_rate(cls.rate), as_concurrency(cls.concurrency)
    cls.cost = check_cost_option(cls.cost)
    if cls.rate_limit and rate_limits(cls.app) == GLOBAL:
        cls.rate = cls.rate or celery_rate(cls.rate_limit)
        cls.rate_limit = None  # or each worker would limit it as well
    cls._flow = TaskFlow(cls.name, cls.rate, cls.concurrency, cls.cost)
    if cls._flow[1:] == (None, None, None):
        cls._flow = None


def share_rate_limits(app: Any) -> None:
    """Have ``rate_limit`` of plain tasks hold for all workers together, if the app's setting says
    so. Workers register the rates, and publishers learn them from there."""
    if rate_limits(app) != GLOBAL:
        return
    for name, task in app.tasks.items():
        if task.rate_limit and not isinstance(task, LimitedTask):
            task._flow = TaskFlow(name, celery_rate(task.rate_limit))
            task.rate_limit = None


def _named(option: str, rule: Any) -> Any:
    """The rate or limit of a single call. Raises InvalidOption for one without a name."""
    if rule is not None and rule.name is None:
        raise InvalidOption(
            f"{option} of a call must have a name, such as {type(rule).__name__}(..., "
            'name="stripe"): without one it would be that of all jobs of the task; give it to the '
            "task, or set it at run time"
        )
    return rule
