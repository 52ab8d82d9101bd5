"""Match a job with its description, and list the differences. Pure functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from ...errors import InvalidOption
from ...job.checks import did_you_mean, is_number
from ...job.unique import Unique
from ..capturing.capture import Enqueued
from .steps import follow
from .values import (
    NOTHING,
    Difference,
    differences,
    mapping_differences,
    matches,
    predicate_differences,
    sequence_differences,
)

# Arguments


def bind(signature: inspect.Signature | None, args: Any, kwargs: Any) -> dict[str, Any] | None:
    """Arguments by the task's names for them; None if they do not fit."""
    if signature is None:
        return None
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return _flat(bound)


def _flat(bound: inspect.BoundArguments) -> dict[str, Any]:
    arguments = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
    return arguments


def positional_names(signature: inspect.Signature) -> list[str]:
    """The parameters that an argument without a name can be for, in order."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in signature.parameters.values() if each.kind in kinds]


def has_kind(signature: inspect.Signature, kind: Any) -> bool:
    """True if it takes any number of arguments of that kind."""
    return any(each.kind is kind for each in signature.parameters.values())


@dataclass(frozen=True)
class Expected:
    """The description of a job; a field that is NOTHING may be anything."""

    #: The name of the task, or NOTHING.
    task: Any = NOTHING
    signature: inspect.Signature | None = None
    args: Any = NOTHING
    kwargs: Any = NOTHING
    queue: Any = NOTHING
    priority: Any = NOTHING
    eta: Any = NOTHING
    countdown: Any = NOTHING
    #: The seconds by which ``eta`` and ``countdown`` may be off.
    delta: float = 2.0
    expires: Any = NOTHING
    tags: Any = NOTHING
    meta: Any = NOTHING
    unique: Any = NOTHING
    max_attempts: Any = NOTHING
    lane: Any = NOTHING
    cost: Any = NOTHING
    headers: Any = NOTHING
    task_id: Any = NOTHING
    group_id: Any = NOTHING
    root_id: Any = NOTHING
    parent_id: Any = NOTHING
    state: Any = NOTHING
    #: The successors: signatures, tasks, or descriptions of them.
    chain: Any = NOTHING
    chord: Any = NOTHING
    link: Any = NOTHING
    link_error: Any = NOTHING
    #: A condition on the job as a whole.
    where: Callable[[Enqueued], Any] | None = None
    #: The words as the caller wrote them, for messages.
    given: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise InvalidOption for arguments that no job of the task can have."""
        signature = self.signature
        if signature is None:
            return
        names = positional_names(signature)
        takes_any = has_kind(signature, inspect.Parameter.VAR_KEYWORD)
        known = [
            each.name for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD
        ]
        for name in self.kwargs or ():
            if name not in known and not takes_any:
                raise InvalidOption(
                    f"{self.task} has no argument {name!r}{did_you_mean(str(name), known)}"
                )
        args = self._positionals()
        if len(args) > len(names) and not has_kind(signature, inspect.Parameter.VAR_POSITIONAL):
            raise InvalidOption(
                f"{self.task} takes {len(names)} positional arguments, not {len(args)}: {self.args}"
            )
        for name in names[: len(args)]:
            if name in (self.kwargs or ()):
                raise InvalidOption(f"{name!r} stands in args as well as in kwargs")

    def differences(self, job: Enqueued) -> Iterator[Difference]:
        """The fields in which a job is not as expected."""
        if self.task is not NOTHING and job.task != self.task:
            yield Difference("task", self.task, job.task)
        yield from self._argument_differences(job)
        yield from self._time_differences(job)
        for name in _SIMPLE:
            expected = getattr(self, name)
            if expected is not NOTHING:
                yield from differences(expected, getattr(job, name), name)
        if self.queue is not NOTHING and not any(matches(self.queue, q) for q in job.queues[1:]):
            yield from differences(self.queue, job.queue, "queue")
        if self.tags is not NOTHING:
            missing = [tag for tag in self.tags if not any(matches(tag, got) for got in job.tags)]
            if missing:
                yield Difference("tags", list(self.tags), list(job.tags))
        if self.unique is not NOTHING:
            yield from _unique_differences(self.unique, job.unique)
        following = {
            "chain": job.chain,
            "chord": () if job.chord is None else (job.chord,),
            "link": job.callbacks,
            "link_error": job.errbacks,
        }
        for name, got in following.items():
            expected = getattr(self, name)
            if expected is not NOTHING:
                yield from follow(expected, got, name)
        if self.where is not None:
            yield from predicate_differences(self.where, job, "where")

    def matches(self, job: Enqueued) -> bool:
        """True if it is as expected."""
        return next(self.differences(job), None) is None

    def select(self, jobs: Iterable[Enqueued], *, is_strict: bool = False) -> list[Enqueued]:
        """The jobs that match.

        Strict, for an absence or a number: raises InvalidOption for a job that is left out only
        because a function of the caller has raised an exception.
        """
        plain = self._plain()
        matches = self._surely_matches if is_strict else self.matches
        return [
            job
            for job in jobs
            if not (plain and self._is_surely_another(job, plain)) and matches(job)
        ]

    def _surely_matches(self, job: Enqueued) -> bool:
        doubt: Difference | None = None
        for each in self.differences(job):
            if each.error is None:
                return False
            doubt = doubt or each
        if doubt is None:
            return True
        raise InvalidOption(
            f"{doubt.field} {doubt.hint} at job {job.task}(args={job.args!r:.200}, "
            f"kwargs={job.kwargs!r:.200}), so that it is not known whether it matches: the "
            "function must return False for another job"
        ) from doubt.error

    def _plain(self) -> list[tuple[str, Any]]:
        """The arguments that a plain comparison decides: a job with others does not match."""
        if self.signature is None:
            return []
        named = dict(zip(positional_names(self.signature), self._positionals(), strict=False))
        named.update(self.kwargs or {})
        return [(name, value) for name, value in named.items() if type(value) in (str, int)]

    def _is_surely_another(self, job: Enqueued, plain: list[tuple[str, Any]]) -> bool:
        bound = self._bind(job)
        if bound is None:
            return False
        for name, value in plain:
            got = bound.get(name)
            if type(got) in (str, int) and got != value:
                return True
        return False

    def _bind(self, job: Enqueued) -> dict[str, Any] | None:
        # Kept with the job: binding takes longest, and many jobs are bound.
        if job.bound is None or job.bound[0] is not self.signature:
            bound = bind(self.signature, job.args, job.kwargs)
            object.__setattr__(job, "bound", (self.signature, bound))
            return bound
        kept: dict[str, Any] | None = job.bound[1]
        return kept

    def distance(self, job: Enqueued) -> float:
        """The distance of a job from its description; 0 for one that matches.

        Another task is further than any other difference; a field with another value is nearer than
        one that is missing.
        """
        return sum(
            _WEIGHTS.get(each.field, 1.0) * (1.5 if each.got is NOTHING else 1.0)
            for each in self.differences(job)
        )

    @property
    def _is_open(self) -> bool:
        return bool(self.args) and self.args[-1] is Ellipsis

    def _positionals(self) -> list[Any]:
        args = [] if self.args is NOTHING else list(self.args)
        return args[:-1] if self._is_open else args

    def _argument_differences(self, job: Enqueued) -> Iterator[Difference]:
        if self.args is NOTHING and self.kwargs is NOTHING:
            return
        args = self._positionals()
        kwargs = self.kwargs or {}
        bound = self._bind(job)
        if bound is None or self.signature is None:
            yield from self._raw_differences(job, args, kwargs)
            return
        names = positional_names(self.signature)
        for index, value in enumerate(args[: len(names)]):
            yield from differences(value, bound[names[index]], f"args[{index}]")
        rest, given = args[len(names) :], job.args
        if self.args is not NOTHING and not self._is_open:
            # All arguments given by position must be described, here or in kwargs.
            more = [name for name in names[len(args) : len(given)] if name not in kwargs]
            if more or len(given) > max(len(names), len(args)):
                yield Difference("args", list(self.args), given)
        if rest:
            last = len(args) if self._is_open else None
            where = f"args[{len(names)}:]"
            yield from sequence_differences(rest, given[len(names) : last], where)
        yield from mapping_differences(kwargs, bound, "kwargs")

    def _raw_differences(
        self, job: Enqueued, args: list[Any], kwargs: Mapping[str, Any]
    ) -> Iterator[Difference]:
        if self.args is not NOTHING:
            given = job.args[: len(args)] if self._is_open else job.args
            yield from sequence_differences(args, given, "args")
        yield from mapping_differences(kwargs, job.kwargs, "kwargs")

    def _time_differences(self, job: Enqueued) -> Iterator[Difference]:
        if self.countdown is not NOTHING:
            expected = 0.0 if self.countdown is None else self.countdown
            yield from self._seconds_differences(expected, job.countdown or 0.0, "countdown")
        for name in ("eta", "expires"):
            expected, got = getattr(self, name), getattr(job, name)
            if expected is NOTHING:
                continue
            if isinstance(expected, datetime) and isinstance(got, datetime):
                off = (got - expected).total_seconds()
                if not abs(off) <= self.delta:  # NaN is not near either
                    yield Difference(name, expected, got, self._off(off))
            elif isinstance(got, datetime) and _is_duration(expected):
                seconds = (got - job.published_at).total_seconds()
                yield from self._seconds_differences(expected, seconds, name)
            else:
                yield from differences(expected, got, name)

    def _seconds_differences(self, expected: Any, got: float, name: str) -> Iterator[Difference]:
        if isinstance(expected, timedelta):
            expected = expected.total_seconds()
        if not _is_duration(expected):
            yield from differences(expected, got, name)
        elif not abs(got - expected) <= self.delta:
            yield Difference(name, expected, round(got, 1), self._off(got - expected))

    def _off(self, seconds: float) -> str:
        return f"{seconds:+,.1f} s; delta={self.delta:g}"


#: Fields that are compared as they are.
_SIMPLE = (
    "priority", "meta", "max_attempts", "headers", "task_id", "group_id", "root_id",
    "parent_id", "state", "lane", "cost",
)  # fmt: skip

#: The weight of a difference; 1 for fields that are not listed.
_WEIGHTS = {"task": 100.0, "args": 2.0, "where": 2.0}


def _is_duration(value: Any) -> bool:
    return is_number(value) or isinstance(value, timedelta)


def _unique_differences(expected: Any, got: Unique | None) -> Iterator[Difference]:
    if isinstance(expected, bool) or expected is None:
        if bool(expected) is not (got is not None):
            yield Difference("unique", expected, got or False)
        return
    if not isinstance(expected, Unique):
        yield from differences(expected, got, "unique")
        return
    if got is None:
        yield Difference("unique", expected, False)
        return
    # The message carries no more of a rule than this.
    for name in ("period", "states", "replace"):
        value, found = getattr(expected, name), getattr(got, name)
        if value != found:
            yield Difference(f"unique.{name}", value, found)


_signatures: WeakKeyDictionary[Any, inspect.Signature | None] = WeakKeyDictionary()


def get_signature(task: Any) -> inspect.Signature | None:
    """The parameters of a task; None for a name, and for a task whose parameters are unknown."""
    # A shared task is a proxy, which does not allow weak references.
    task = getattr(task, "_get_current_object", lambda: task)()
    run = getattr(task, "run", None)
    if run is None:
        return None
    if task not in _signatures:
        try:
            _signatures[task] = inspect.signature(run)
        except (TypeError, ValueError):
            _signatures[task] = None
    return _signatures[task]
