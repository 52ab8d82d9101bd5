"""Match the successors of a job: a chain's steps, a chord's body, links.

A step is described by a task or its name; by a signature, whose task, arguments and kind must be
the same, and whose options must be among the step's; by ``expected(...)``; or by ``...``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol, runtime_checkable

from ...job.envelope import moment
from ...job.options import HEADER
from ...job.unique import as_unique
from ..capturing.capture import Enqueued
from .values import Difference, differences, equal

#: Options that Celery adds to a signature when it is published.
_CELERYS = frozenset(["task_id", "reply_to", "root_id", "parent_id", "group_id", "group_index"])
#: Options that are signatures themselves.
_FOLLOWING = frozenset(["chain", "chord", "link", "link_error"])


@runtime_checkable
class Description(Protocol):
    """The type of ``expected(...)``."""

    task: Any

    def differences(self, job: Enqueued) -> Iterator[Difference]:
        """The fields in which a job is not as expected."""


def follow(expected: Any, got: Any, name: str) -> Iterator[Difference]:
    """The differences of the signatures that follow a job; None expects none."""
    if expected is None:
        expected = ()
    elif not isinstance(expected, (list, tuple)):
        expected = (expected,)
    if len(expected) != len(got):
        yield Difference(name, [_step(e) for e in expected], [_step(g) for g in got])
        return
    for index, (step, found) in enumerate(zip(expected, got, strict=True)):
        where = name if name == "chord" else f"{name}[{index}]"
        for each in _differences(step, found):
            yield each._replace(field=f"{where}.{each.field}")


def _differences(step: Any, found: Mapping[str, Any]) -> Iterator[Difference]:
    if isinstance(step, Description):
        yield from step.differences(from_signature(found))
        return
    if step is Ellipsis or (not isinstance(step, (str, Mapping)) and equal(step, found)):
        return
    name = _step(step)
    if name != found["task"]:
        yield Difference("task", name, found["task"])
    elif isinstance(step, Mapping):
        yield from _signature_differences(step, found)


def _signature_differences(step: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Any]:
    yield from _list(list(step["args"]), list(found["args"]), "args")
    kwargs, given = dict(step["kwargs"]), found["kwargs"]
    if more := sorted(set(given) - set(kwargs)):
        yield Difference("kwargs", kwargs, given, f"{more[0]!r} is there as well")
    for key, value in kwargs.items():
        if key in given:
            yield from _value(value, given[key], f"kwargs[{key!r}]")
        else:
            yield from differences(kwargs, given, "kwargs")
    if bool(step.get("immutable")) is not bool(found.get("immutable")):
        yield Difference("immutable", bool(step.get("immutable")), bool(found.get("immutable")))
    options = found.get("options") or {}
    for key, value in (step.get("options") or {}).items():
        if key in _FOLLOWING:
            yield from follow(value, _as_list(options.get(key)), key)
        elif key == "unique":
            rule, got = as_unique(value), as_unique(options.get(key))
            if rule != got:
                yield Difference("unique", value, options.get(key))
        elif key not in _CELERYS:
            found_value = getattr(options.get(key), "name", options.get(key))
            yield from differences(getattr(value, "name", value), found_value, key)


def _value(expected: Any, got: Any, name: str) -> Iterator[Difference]:
    """Compare one argument; in a group or a chord it may hold signatures again."""
    if _is_signature(expected) and _is_signature(got):
        for each in _differences(expected, got):
            yield each._replace(field=f"{name}.{each.field}")
        return
    if isinstance(expected, (list, tuple)):
        # A chord's header is a list or a group, as it was written.
        inner = got["kwargs"].get("tasks") if _is_signature(got) else got
        if isinstance(inner, (list, tuple)) and any(map(_is_signature, expected)):
            yield from _list(list(expected), list(inner), name)
            return
    yield from differences(expected, got, name)


def _list(expected: list[Any], got: list[Any], name: str) -> Iterator[Difference]:
    if len(expected) != len(got):
        yield Difference(name, expected, got)
        return
    for index, (value, found) in enumerate(zip(expected, got, strict=True)):
        yield from _value(value, found, f"{name}[{index}]")


def _is_signature(value: Any) -> bool:
    return isinstance(value, Mapping) and {"task", "args", "kwargs", "options"} <= value.keys()


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _step(step: Any) -> Any:
    """The name of a step's task."""
    if isinstance(step, Description):
        return step.task
    if isinstance(step, Mapping):
        return step["task"]
    return getattr(step, "name", step)


def from_signature(found: Mapping[str, Any]) -> Enqueued:
    """The job that a following signature would become."""
    options = found.get("options") or {}
    header = (options.get("headers") or {}).get(HEADER) or {}
    now = datetime.now(timezone.utc)

    def option(name: str) -> Any:
        return options[name] if name in options else header.get(name)

    def time(name: str, seconds: Any) -> datetime | None:
        if isinstance(seconds, (int, float)) and seconds:
            return now + timedelta(seconds=seconds)
        return moment(options.get(name), lambda: timezone.utc)

    return Enqueued(
        task_id=str(options.get("task_id") or ""),
        task=found["task"],
        args=list(found.get("args") or ()),
        kwargs=dict(found.get("kwargs") or {}),
        queue=getattr(options.get("queue"), "name", options.get("queue")) or "",
        priority=options.get("priority") or 0,
        eta=time("eta", options.get("countdown")),
        expires=time("expires", options.get("expires")),
        published_at=now,
        root_id=options.get("root_id"),
        parent_id=options.get("parent_id"),
        group_id=options.get("group_id"),
        tags=tuple(option("tags") or ()),
        meta=dict(option("meta") or {}),
        max_attempts=option("max_attempts"),
        unique=as_unique(option("unique")),
        chord=options.get("chord"),
        callbacks=tuple(_as_list(options.get("link"))),
        errbacks=tuple(_as_list(options.get("link_error"))),
        headers=dict(options.get("headers") or {}),
    )
