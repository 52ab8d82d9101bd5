"""The jobs that follow another, as the signatures in its message say. Pure: reads no row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: How deep signatures are followed into each other.
DEEPEST = 50


@dataclass(frozen=True)
class Step:
    """A task that is in a message, and not published yet, or its job is there already."""

    task: str
    #: None where the signature was not frozen: the job will get its id when it is published.
    task_id: str | None
    #: The body of the chord that it is a task of.
    chord: Plan | None = None
    #: The jobs that are published when it has succeeded (``link``).
    links: tuple[Plan, ...] = ()


@dataclass(frozen=True)
class Series:
    """One after the other: a chain."""

    parts: tuple[Plan, ...]


@dataclass(frozen=True)
class Parallel:
    """At the same time: a group; then its ``body``, where it is the header of a chord."""

    parts: tuple[Plan, ...]
    body: Plan | None = None


Plan = Step | Series | Parallel


def after(links: Mapping[str, Any]) -> tuple[Plan | None, Plan | None, tuple[Plan, ...]]:
    """The rest of the chain, the body of the chord, and the callbacks, from a job's message."""
    # Celery takes the next one from the end.
    chain = [*_plans(reversed(_list(links.get("chain"))))]
    callbacks = tuple(_plans(_list(links.get("callbacks"))))
    return (Series(tuple(chain)) if chain else None), read_plan(links.get("chord")), callbacks


def read_plan(signature: Any, depth: int = 0) -> Plan | None:
    """The plan that a signature is; None for what is none, and for one that is empty."""
    if depth > DEEPEST or not isinstance(signature, Mapping):
        return None
    kind, parts = signature.get("subtask_type"), _mapping(signature.get("kwargs"))
    if kind == "chain":
        steps = tuple(_plans(_list(parts.get("tasks")), depth))
        return Series(steps) if steps else None
    if kind == "group":
        return _parallel(parts.get("tasks"), None, depth)
    if kind == "chord":
        header = parts.get("header")
        if isinstance(header, Mapping):  # a group
            header = _mapping(header.get("kwargs")).get("tasks")
        return _parallel(header, read_plan(parts.get("body"), depth + 1), depth)
    task = signature.get("task")
    if not isinstance(task, str):
        return None
    options = _mapping(signature.get("options"))
    task_id = options.get("task_id")
    return Step(
        task,
        task_id if isinstance(task_id, str) else None,
        read_plan(options.get("chord"), depth + 1),
        tuple(_plans(_list(options.get("link")), depth)),
    )


def first_id(plan: Plan | None) -> str | None:
    """The id of the first task that is published for it; None where that is not known."""
    while plan is not None:
        if isinstance(plan, Step):
            return plan.task_id
        plan = plan.parts[0] if plan.parts else None
    return None


def _parallel(tasks: Any, body: Plan | None, depth: int) -> Plan | None:
    steps = tuple(_plans(_list(tasks), depth))
    if not steps:
        return body
    return Parallel(steps, body)


def _plans(signatures: Iterator[Any] | Sequence[Any], depth: int = 0) -> Iterator[Plan]:
    for each in signatures:
        if (plan := read_plan(each, depth + 1)) is not None:
            yield plan


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
