"""The actions of a visitor on one job, or to all jobs of its canvas.

A form names the job by ``id``; with ``canvas`` all that belong to it are meant.
"""

from __future__ import annotations

import json
from datetime import datetime
from shlex import quote
from typing import TYPE_CHECKING, Any

from ...control.canvas import find_canvas
from ...control.explanation import COMMAND, count
from ...control.signal import send
from ...errors import InvalidOption
from ...job.spelling import read_duration
from ...job.states import State
from ..routes import Act

if TYPE_CHECKING:
    from starlette.responses import Response

    from ...control.jobs import Selection
    from ..visit import Visit

#: How many roots of a canvas the command that equals an action writes out.
FEW = 3


def retry(visit: Visit) -> Response:
    """Put it in line again; of a canvas what has failed."""
    jobs, words = _chosen(visit)
    if visit.form.get("canvas"):
        jobs, words = jobs.filter(state=State.DISCARDED), f"--state discarded {words}"
    return _done(visit, jobs.retry(), "put in line again", f"retry {words}")


def cancel(visit: Visit) -> Response:
    """Cancel a job: one that waits never starts, one that runs is told."""
    jobs, words = _chosen(visit)
    reason = _text(visit, "reason")
    done = jobs.cancel(reason)
    more = f" --reason {quote(reason)}" if reason else ""
    return _done(visit, done, "cancelled, or told to stop", f"cancel{more} {words}")


def terminate(visit: Visit) -> Response:
    """As :func:`cancel`; what runs is ended."""
    jobs, words = _chosen(visit)
    reason = _text(visit, "reason")
    done = jobs.cancel(reason, terminate=True)
    more = f" --reason {quote(reason)}" if reason else ""
    return _done(visit, done, "cancelled, or ended", f"cancel --terminate{more} {words}")


def delete(visit: Visit) -> Response:
    """Take its row away."""
    jobs, words = _chosen(visit)
    return _done(visit, jobs.delete(), "deleted", f"delete {words}")


def reschedule(visit: Visit) -> Response:
    """Give it another time: now, in a while, or at a time."""
    jobs, words = _chosen(visit)
    when = _text(visit, "when") or "0"
    moment = _moment(when)
    if moment is None:
        done, option = jobs.reschedule(countdown=read_duration(when)), f"--in {quote(when)}"
    else:
        done, option = jobs.reschedule(eta=moment), f"--at {quote(moment.isoformat())}"
    return _done(visit, done, "given another time", f"reschedule {option} {words}")


def prioritize(visit: Visit) -> Response:
    """Give it another priority."""
    jobs, words = _chosen(visit)
    given = _text(visit, "priority")
    if not (given.isascii() and given.isdigit() and len(given) <= 3):
        raise InvalidOption(f"priority must be 0 to 255: {given[:40]!r}")
    done = jobs.set_priority(int(given))
    return _done(visit, done, "given another priority", f"prioritize --to {int(given)} {words}")


def move(visit: Visit) -> Response:
    """Put it into another queue."""
    jobs, words = _chosen(visit)
    queue = _text(visit, "queue")
    return _done(visit, jobs.move(queue), "moved", f"move --to {quote(queue)} {words}")


def signal(visit: Visit) -> Response:
    """Send it a signal, with a payload that is JSON."""
    task_id, name = _text(visit, "id"), _text(visit, "name")
    if not task_id:
        raise InvalidOption("the form names no job")
    text = _text(visit, "payload") or "null"
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        words = "No signal was sent: its payload is not JSON. A text stands in quotes."
        return visit.redirect(visit.back(), words, is_error=True)
    source = visit.source
    was_sent = send(
        source.database, source.app, [(task_id, name, payload)], first=bool(_text(visit, "first"))
    )
    more = "" if text == "null" else f" --payload {quote(text)}"
    words = f"signal{more}{' --first' if _text(visit, 'first') else ''}"
    command = f"{COMMAND} {words} {as_argument(task_id)} {quote(name)}"
    words = f"Signal {name} was sent." if was_sent else f"A signal {name} was sent before."
    return visit.redirect(visit.back(), words, cli=command, is_error=not was_sent)


def _chosen(visit: Visit) -> tuple[Selection, str]:
    """The jobs that the form means, and the words that select them on the command line."""
    task_id = _text(visit, "id")
    if not task_id:
        raise InvalidOption("the form names no job")
    jobs = visit.source.jobs
    if not visit.form.get("canvas"):
        return jobs.filter(id=task_id), as_argument(task_id)
    canvas = find_canvas(visit.source.database, task_id)
    if canvas is None:
        raise InvalidOption("the job does not belong to others any more")
    roots = sorted(canvas.roots)
    words = " ".join(f"--root {quote(root)}" for root in roots[:FEW])
    more = f" …  # and {len(roots) - FEW:,} more roots" if len(roots) > FEW else ""
    return canvas.select(jobs), words + more


def as_argument(task_id: str) -> str:
    """An id that begins with a dash would be read as an option."""
    return f"-- {quote(task_id)}" if task_id.startswith("-") else quote(task_id)


def _moment(text: str) -> datetime | None:
    """A time from ISO 8601; None for what may be a duration."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None


def _text(visit: Visit, name: str) -> str:
    value: Any = visit.form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def _done(visit: Visit, changed: list[str], done: str, command: str) -> Response:
    number = len(changed)
    if not number:
        text = "Nothing was changed: it is in a state that this does not apply to, or is gone."
    else:
        text = f"{count(number, 'job')} {'was' if number == 1 else 'were'} {done}."
    return visit.redirect(visit.back(), text, cli=f"{COMMAND} {command}", is_error=not number)


ROUTES = (
    Act("/job/retry", retry, "retry_jobs", "job_retry"),
    Act("/job/cancel", cancel, "cancel_jobs", "job_cancel"),
    Act("/job/terminate", terminate, "terminate_jobs", "job_terminate"),
    Act("/job/delete", delete, "delete_jobs", "job_delete"),
    Act("/job/reschedule", reschedule, "reschedule_jobs", "job_reschedule"),
    Act("/job/prioritize", prioritize, "prioritize_jobs", "job_prioritize"),
    Act("/job/signal", signal, "signal_job", "job_signal"),
    Act("/job/move", move, "move_jobs", "job_move"),
)
