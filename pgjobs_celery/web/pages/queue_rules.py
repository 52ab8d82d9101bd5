"""The rules of a queue: its rate, its limit by key, fair shares, depth, and pauses."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

from ...control.flows import Flows
from ...control.queues import Queues
from ...errors import InvalidOption
from ...job.flow import QUEUE, RATE, RUNNING, flow_name
from ...job.flow_options import WAIT
from ...job.pauses import KEY
from ...job.spelling import read_duration
from ..routes import Act

if TYPE_CHECKING:
    from starlette.responses import Response

    from ...control.one_queue import OneQueue
    from ...db.database import Database
    from ..visit import Visit

#: The form's choices of a publisher where a queue is full.
ON_FULL = {"raise": "raise QueueFull", "wait": "wait", "drop_oldest": "drop the oldest"}


def rules_of(database: Database, name: str) -> dict[str, Any]:
    """The rules of a queue as its page shows them."""
    flows, queue = Flows(database), Queues(database)
    return {
        "rules": queue.get(name),
        "rate": flows.get(flow_name(RATE, QUEUE, name)),
        "running": flows.get(flow_name(RUNNING, QUEUE, name)),
        "weights": queue[name].weights(),
        "pauses": [
            each for each in flows.pauses() if each.kind != KEY or each.queue == name
        ],
        "on_full": ON_FULL,
    }  # fmt: skip


def rate(visit: Visit) -> Response:
    """At most so many of its jobs begin in a time; an empty field takes the rate away."""
    queue, limit, by = _queue(visit), _field(visit, "limit"), _field(visit, "by") or None
    if not limit:
        return _reset(visit, queue, RATE)
    burst = _number(visit, "burst")
    _flows(visit).change(flow_name(RATE, QUEUE, queue.name), limit, by=by, burst=burst)
    each = f" of each value of {by}" if by else ""
    options = (f" --by {quote(by)}" if by else "") + (f" --burst {burst}" if burst else "")
    return _done(
        visit,
        f"Queue {queue.name} begins at most {limit}{each}.",
        f"queues rate {quote(queue.name)} {quote(limit)}{options}",
    )


def running(visit: Visit) -> Response:
    """At most so many of each key run at once; an empty field takes the limit away."""
    queue, by = _queue(visit), _field(visit, "by")
    number = _number(visit, "limit")
    if number is None:
        return _reset(visit, queue, RUNNING)
    if not by:
        raise InvalidOption("a limit of each key needs an argument: kwargs.customer_id")
    _flows(visit).change(flow_name(RUNNING, QUEUE, queue.name), number, by=by)
    return _done(
        visit,
        f"Queue {queue.name} runs {number:,} at once of each value of {by}.",
        f"queues concurrency {quote(queue.name)} {number} --by {quote(by)}",
    )


def share(visit: Visit) -> Response:
    """Its keys are served in turn; an empty field has it serve one line."""
    queue, by = _queue(visit), _field(visit, "by")
    if not by:
        queue.unfair()
        return _done(
            visit, f"Queue {queue.name} has one line.", f"queues unfair {quote(queue.name)}"
        )
    ageing = _field(visit, "ageing")
    queue.fair(by, read_duration(ageing) if ageing else None)
    option = f" --ageing {quote(ageing)}" if ageing else ""
    return _done(
        visit,
        f"Queue {queue.name} serves the values of {by} in turn.",
        f"queues fair {quote(queue.name)} {quote(by)}{option}",
    )


def weigh(visit: Visit) -> Response:
    """A key has so many turns where others have one; an empty field is one."""
    queue, key, given = _queue(visit), _field(visit, "key"), _field(visit, "weight")
    try:
        weight = float(given) if given else None
    except ValueError:
        raise InvalidOption(f"a weight is a number above 0, not {given[:40]!r}") from None
    queue.weight(key, weight)
    shown = "none" if weight is None else f"{weight:g}"
    return _done(
        visit,
        f"Key {key} has weight {1 if weight is None else shown} in queue {queue.name}.",
        f"queues weight {quote(queue.name)} {quote(key)} {shown}",
    )


def bound(visit: Visit) -> Response:
    """At most so many of its jobs wait; an empty field takes the bound away."""
    queue, number = _queue(visit), _number(visit, "depth")
    on_full = _field(visit, "on_full") or "raise"
    wait = _field(visit, "wait") if on_full == WAIT else ""
    queue.max_depth(number, on_full, read_duration(wait) if wait else None)
    if number is None:
        return _done(
            visit,
            f"Any number of jobs may wait in queue {queue.name}.",
            f"queues depth {quote(queue.name)} none",
        )
    return _done(
        visit,
        f"At most {number:,} jobs may wait in queue {queue.name}.",
        f"queues depth {quote(queue.name)} {number} --on-full {on_full}"
        + (f" --wait {quote(wait)}" if wait else ""),
    )


def reset(visit: Visit) -> Response:
    """The rules of the code count again."""
    queue = _queue(visit)
    queue.reset()
    return _done(
        visit,
        f"What was set by hand for queue {queue.name} is forgotten.",
        f"queues reset {quote(queue.name)}",
    )


def pause(visit: Visit) -> Response:
    """No job of a task, with a tag, or of a key of a queue begins from now on."""
    given = _field(visit, "until")
    until = read_duration(given) if given else None
    what, command, words = _paused(visit)
    _flows(visit).pause(**what, until=until)
    end = f" --until {quote(given)}" if given else ""
    return _done(visit, f"{words} is paused: none of its jobs begins.", f"pause {command}{end}")


def resume(visit: Visit) -> Response:
    """They may begin again."""
    what, command, words = _paused(visit)
    was_paused = _flows(visit).resume(**what)
    text = f"{words} goes on." if was_paused else f"{words} was not paused."
    return _done(visit, text, f"resume {command}")


def _paused(visit: Visit) -> tuple[dict[str, Any], str, str]:
    """The subject of a form: as arguments, for the command line, and in words."""
    kind, name = _field(visit, "kind") or KEY, _field(visit, "key")
    if kind not in ("task", "tag", KEY):
        raise InvalidOption(f"a pause is of a task, a tag or a key, not {kind[:40]!r}")
    if kind != KEY:
        return {kind: name}, f"--{kind} {quote(name)}", f"{kind.capitalize()} {name}"
    queue = _field(visit, "queue")
    command = f"{quote(queue)} --key {quote(name)}"
    return {"key": name, "queue": queue}, command, f"Key {name} of queue {queue}"


def _reset(visit: Visit, queue: OneQueue, kind: str) -> Response:
    flow = flow_name(kind, QUEUE, queue.name)
    was_set = _flows(visit).reset(flow)
    text = f"{flow} is not set by hand any more." if was_set else f"{flow} was not set by hand."
    return _done(visit, text, f"flows reset {quote(flow)}")


def _done(visit: Visit, text: str, command: str) -> Response:
    return visit.redirect(visit.back(), text, cli=f"celery -A proj pgjobs {command}")


def _queue(visit: Visit) -> OneQueue:
    visit.site.memory.clear()
    return Queues(visit.source.database, visit.source.app)[_field(visit, "queue")]


def _flows(visit: Visit) -> Flows:
    visit.site.memory.clear()
    return Flows(visit.source.database, visit.source.app)


def _field(visit: Visit, name: str) -> str:
    return str(visit.form.get(name, "")).strip()


def _number(visit: Visit, name: str) -> int | None:
    given = _field(visit, name)
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 20):
        raise InvalidOption(f"{name} must be a whole number from 0, not {given[:50]!r}")
    return int(given)


ROUTES = (
    Act("/queues/rate", rate, "set_flow", name="queue_rate"),
    Act("/queues/running", running, "set_flow", name="queue_running"),
    Act("/queues/share", share, "share_queue"),
    Act("/queues/weigh", weigh, "weigh_key"),
    Act("/queues/bound", bound, "bound_queue"),
    Act("/queues/reset", reset, "reset_queue"),
    Act("/queues/pause-jobs", pause, "pause_jobs"),
    Act("/queues/resume-jobs", resume, "resume_jobs"),
)
