"""Explain why an assertion fails: its description, and the nearest jobs field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from celery import Task

from ...job.checks import did_you_mean
from ..capturing.capture import Enqueued
from .matching import Expected
from .values import NOTHING, Difference

#: How many jobs, and how many of their differences, are shown.
NEAREST, DIFFERENCES = 3, 8
#: How long a value may be, in characters.
LONGEST = 90
#: How many jobs are compared: a person reads the message.
MEASURED = 2000


def describe_missing(
    expected: Expected,
    count: int | None,
    found: Sequence[Enqueued],
    pool: Sequence[Enqueued],
    others: Sequence[Enqueued],
) -> str:
    """Why too few, or too many, match. ``pool``: candidates; ``others``: not waiting."""
    lines = [_headline(expected, count, len(found))]
    if found and (count is None or len(found) > count or not _misses(found, pool)):
        lines += ["", "these match:", *_each(expected, found)]
    near = [] if count is not None and len(found) > count else nearest(expected, found, pool)
    if near:
        same = [job for job in pool if job.task == expected.task]
        of = f"{len(same)} of this task, " if expected.task is not NOTHING else ""
        lines += ["", f"nearest of what is enqueued ({of}{len(pool)} in all):"]
        for job in near:
            lines += ["", *_compare(expected, job)]
    if len(found) <= (count or 0):
        lines += _hints(expected, pool, others)
    return "\n".join(lines)


def describe_unwanted(expected: Expected, found: Sequence[Enqueued]) -> str:
    """List the jobs that should not be enqueued."""
    what = "1 job is" if len(found) == 1 else f"{len(found)} jobs are"
    lines = [f"{what} enqueued, and none should be, of {_name(expected)}"]
    return "\n".join([*lines, *_criteria(expected), "", *_each(expected, found)])


def describe_escaped(expected: Expected, names: Sequence[str]) -> str:
    """Explain that the jobs are not known, because some were published elsewhere."""
    counts = ", ".join(f"{name} ({number})" for name, number in Counter(names).most_common(8))
    lines = [
        f"the enqueued jobs of {_name(expected)} are not known: past this block was published",
        f"  {counts}",
        "by another app (a shared task's is the current one), or over a connection that the code",
        "has opened itself: have that app in testing(), or let the task take the app's own pool",
    ]
    return "\n".join(lines)


def describe_order(
    steps: Sequence[Expected], done: int, after: Enqueued | None, pool: Sequence[Enqueued]
) -> str:
    """Why jobs are not in order: the step that has no job after the one before it."""
    step = steps[done]
    lines = [f"out of order: no job of {_name(step)} was enqueued", *_criteria(step)]
    if after is not None:
        lines.append(f"after {short(after)}")
    earlier = [job for job in pool if step.matches(job)]
    if earlier:
        lines.append("but before it:")
        lines += [f"  {short(job)}" for job in earlier[:NEAREST]]
    lines += ["", "they were enqueued in this order:"]
    lines += [f"  {short(job)}" for job in pool[: 5 * NEAREST]]
    if len(pool) > 5 * NEAREST:
        lines.append(f"  ... and {len(pool) - 5 * NEAREST} more")
    near = nearest(step, (), [job for job in pool if after is None or job.number > after.number])
    for job in [] if earlier else near[:1]:
        lines += ["", "the nearest:", *_compare(step, job)]
    return "\n".join(lines)


def nearest(
    expected: Expected, found: Sequence[Enqueued], pool: Sequence[Enqueued]
) -> list[Enqueued]:
    """The closest jobs that do not match; of the same task, if any."""
    numbers = {job.number for job in found}
    candidates = [job for job in pool if job.number not in numbers]
    same = [job for job in candidates if job.task == expected.task]
    if expected.task is not NOTHING:
        candidates = same
    measured = [(expected.distance(job), job) for job in candidates[-MEASURED:]]
    measured.sort(key=lambda each: (each[0], -each[1].number))
    return [job for _, job in measured[:NEAREST]]


def short(job: Enqueued) -> str:
    """A job in one line: its place, its call, and every unusual field."""
    call = [show(arg) for arg in job.args]
    call += [f"{name}={show(value)}" for name, value in job.kwargs.items()]
    details = [f"queue={job.queue}"]
    if job.priority:
        details.append(f"priority={job.priority}")
    if job.countdown:
        details.append(f"countdown={job.countdown:.0f}")
    if job.tags:
        details.append(f"tags={list(job.tags)}")
    if job.retries:
        details.append(f"retries={job.retries}")
    if job.group_id:
        details.append(f"group={job.group_id[:8]}")
    if job.chain:
        details.append("then " + " | ".join(_last(step["task"]) for step in job.chain))
    if not job.is_waiting:
        details.append(str(job.state))
    return f"#{job.number} {_last(job.task)}({_cut(', '.join(call))})  {', '.join(details)}"


def show(value: Any) -> str:
    """A value, short enough to be read; a matcher by its meaning."""
    if value is NOTHING:
        return "nothing"
    if isinstance(value, type):
        return f"any {value.__name__}"
    if isinstance(value, Task):
        return str(value.name)
    if isinstance(value, Expected):
        return f"expected({', '.join([_name(value), *_words(value)])})"
    if isinstance(value, list) and value and not isinstance(value[0], (str, int)):
        return _cut(f"[{', '.join(map(show, value))}]")
    code = getattr(value, "__code__", None)
    if code is not None:
        file = str(code.co_filename).replace("\\", "/").rpartition("/")[2]
        return f"what {value.__name__} says True to ({file}:{code.co_firstlineno})"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return _cut(_repr(value))


def _headline(expected: Expected, count: int | None, found: int) -> str:
    name = _name(expected)
    if count is None:
        line = f"no job of {name} is enqueued" if expected.given else f"{name} is not enqueued"
    else:
        jobs = "1 job" if count == 1 else f"{count} jobs"
        line = f"expected {jobs} of {name}, and {found or 'none'} {'is' if found == 1 else 'are'}"
        line = f"{line} enqueued" if found or count else line
    return "\n".join([line, *_criteria(expected)])


def _criteria(expected: Expected) -> list[str]:
    return [f"  with {', '.join(_words(expected))}"] if expected.given else []


def _words(expected: Expected) -> list[str]:
    return [f"{name}={_shown_value(value)}" for name, value in expected.given.items()]


def _shown_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_shown_value(v)}" for k, v in value.items()) + "}"
    return show(value)


def _name(expected: Expected) -> str:
    return "any task" if expected.task is NOTHING else str(expected.task)


def _misses(found: Sequence[Enqueued], pool: Sequence[Enqueued]) -> bool:
    return len(found) < len(pool)


def _each(expected: Expected, jobs: Iterable[Enqueued]) -> list[str]:
    shown = list(jobs)
    lines = [f"  {short(job)}" for job in shown[: 3 * NEAREST]]
    if len(shown) > len(lines):
        lines.append(f"  ... and {len(shown) - len(lines)} more")
    return lines


def _compare(expected: Expected, job: Enqueued) -> list[str]:
    lines = [f"  {short(job)}"]
    found = list(expected.differences(job))
    width = max((len(each.field) for each in found[:DIFFERENCES]), default=0)
    for each in found[:DIFFERENCES]:
        lines += _difference(each, min(width, 30))
    if len(found) > DIFFERENCES:
        lines.append(f"      ... and {len(found) - DIFFERENCES} more differences")
    return lines


def _difference(each: Difference, width: int) -> list[str]:
    expected, got = _pair(each.expected, each.got)
    hint = f"  ({each.hint})" if each.hint else ""
    line = f"      {each.field:<{width}}  expected {expected}, got {got}{hint}"
    if len(line) <= 110:
        return [line]
    indent = " " * (6 + width)
    return [
        f"      {each.field:<{width}}  expected {expected}",
        f"{indent}       got {got}{hint}",
    ]


def _pair(expected: Any, got: Any) -> tuple[str, str]:
    """Both values, cut to show the difference; with their types if only these differ."""
    if isinstance(expected, str) and isinstance(got, str):
        return _texts(expected, got)
    left, right = show(expected), show(got)
    if left == right or (
        type(expected) is not type(got) and str(expected) == str(got) and got is not NOTHING
    ):
        left, right = f"{left} ({type(expected).__name__})", f"{right} ({type(got).__name__})"
    return left, right


def _texts(expected: str, got: str) -> tuple[str, str]:
    if max(len(expected), len(got)) <= LONGEST:
        return repr(expected), repr(got)
    same = next(
        (n for n, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    start = max(0, same - LONGEST // 3)

    def part(text: str) -> str:
        shown = repr(text[start : start + LONGEST])
        before, after = "..." if start else "", "..." if len(text) > start + LONGEST else ""
        return f"{before}{shown}{after}"

    return part(expected), part(got)


def _hints(expected: Expected, pool: Sequence[Enqueued], others: Sequence[Enqueued]) -> list[str]:
    """Further hints for a missing job."""
    lines: list[str] = []
    over = Counter(str(job.state) for job in others if expected.matches(job))
    if over:
        counts = ", ".join(f"{number} {state}" for state, number in over.items())
        lines += ["", f"it was enqueued, but waits no more: {counts}"]
    if expected.task is NOTHING:
        return lines if pool else [*lines, "", "nothing is enqueued"]
    if not any(job.task == expected.task for job in pool):
        lines += _following(str(expected.task), pool)
        names = Counter(job.task for job in pool)
        if names:
            counts = ", ".join(f"{name} ({number})" for name, number in names.most_common(8))
            more = f" and {len(names) - 8} other tasks" if len(names) > 8 else ""
            meant = did_you_mean(str(expected.task), names)
            lines += ["", f"enqueued are: {counts}{more}{meant}"]
        else:
            lines += ["", "nothing is enqueued"]
    return lines


def _following(task: str, pool: Sequence[Enqueued]) -> list[str]:
    """Lines that tell if the task is a later part of a chain, chord or link that is enqueued."""
    for job in pool:
        parts = {"chain": job.chain, "chord": [job.chord] if job.chord else [],
                 "link": job.callbacks, "link_error": job.errbacks}  # fmt: skip
        for name, steps in parts.items():
            for index, step in enumerate(steps):
                if isinstance(step, Mapping) and step.get("task") == task:
                    place = f"step {index + 2} of the chain" if name == "chain" else f"the {name}"
                    if name == "chord":
                        place = "the body of the chord"
                    return [
                        "",
                        f"it is {place} that begins with {short(job)}",
                        f"and will be enqueued later: assert the first with {name}=, or run it",
                    ]
    return []


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # of an object that a test made up
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
