"""``queues(app)["mail"].explain()``: whether a queue is full, and what keeps it from emptying."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from ..job.flow import QUEUE, RATE, RUNNING, flow_name
from ..job.flow_options import DROP_OLDEST, FULL_WAIT, WAIT
from .explanation import COMMAND
from .overview import QueueNow, overview

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.limits import QueueRow

#: Every kind of explanation of a queue, and its meaning.
QUEUE_KINDS = {
    "unbounded": "any number of jobs may wait in it",
    "has_room": "fewer jobs wait than may",
    "full": "as many jobs wait as may, and its publishers are refused, wait or push jobs out",
}


@dataclass(frozen=True)
class QueueExplanation:
    """Why a publisher is refused, or would not be."""

    #: A word of :data:`QUEUE_KINDS`.
    kind: str
    text: str
    #: A command that removes the cause; None where there is nothing to remove.
    remedy: str | None = None
    #: How many jobs wait to be claimed, counted to one more than may; None where any number may.
    depth: int | None = None
    max_depth: int | None = None


def explain_queue(database: Database, name: str) -> QueueExplanation:
    """Whether a queue is full, and why it does not empty."""
    rules = database.limits.get_limits(name)
    if rules.max_depth is None:
        text = f"Any number of jobs may wait in queue {name}: it has no max_depth."
        return QueueExplanation("unbounded", text)
    depth = database.flow_rules.count_depth(name, rules.max_depth + 1)
    shown = f"more than {rules.max_depth:,}" if depth > rules.max_depth else f"{depth:,}"
    verb = "waits" if depth == 1 else "wait"
    numbers = f"{shown} of its jobs {verb}, and its max_depth is {rules.max_depth:,}"
    if depth < rules.max_depth:
        free = rules.max_depth - depth
        text = f"Queue {name} has room for {free:,} more: {numbers}."
        return QueueExplanation("has_room", text, None, depth, rules.max_depth)
    cause, remedy = _cause(database, rules)
    text = f"Queue {name} is full: {numbers}. {_choice(rules)} {cause}"
    return QueueExplanation("full", text, remedy, depth, rules.max_depth)


def _choice(rules: QueueRow) -> str:
    """The lot of a publisher of one job more."""
    if rules.on_full == DROP_OLDEST:
        return "A publisher of one more has the job cancelled that waits longest."
    if rules.on_full == WAIT:
        wait = FULL_WAIT if rules.full_wait is None else rules.full_wait
        return f"A publisher of one more waits for up to {wait:g} s, and gets QueueFull then."
    return "A publisher of one more gets QueueFull."


def _cause(database: Database, rules: QueueRow) -> tuple[str, str]:
    """The first thing that keeps the queue from emptying, and the command about it."""
    name, shell = rules.name, quote(rules.name)
    seen = next((each for each in overview(database).queues if each.name == name), QueueNow(name))
    if rules.paused_at is not None:
        return "It is paused: resume it.", f"{COMMAND} resume {shell}"
    if not seen.consumers:
        return (
            "No live worker consumes it: start one.",
            f"celery -A proj worker --queues {shell}",
        )
    number = seen.consumers
    workers = f"{number:,} live worker{'s consume' if number > 1 else ' consumes'} it"
    if rules.concurrency is not None and seen.running >= rules.concurrency:
        return (
            f"{workers}, and as many of its jobs run as its limit allows, {rules.concurrency:,}:"
            " raise the limit, or publish later.",
            f"{COMMAND} limit {shell} {rules.concurrency * 2 or 1}",
        )
    flows = {flow_name(kind, QUEUE, name) for kind in (RATE, RUNNING)}
    if waiting := database.rules.count_waiting(flows):
        flow = waiting[0].flow
        jobs = sum(each.jobs for each in waiting if each.flow == flow)
        more = " or more" if any(each.is_cut for each in waiting) else ""
        return (
            f"{workers}, and {jobs:,}{more} of its jobs wait in lanes of {flow}: raise that rate or"
            " limit, or publish later.",
            f"{COMMAND} flows show {quote(flow)}",
        )
    return (
        f"{workers}; {seen.running:,} of its jobs run, and {seen.rate_out:.3g} end a second:"
        " start more workers, publish later, or raise max_depth.",
        f"{COMMAND} queues depth {shell} {(rules.max_depth or 0) * 2 or 1}",
    )
