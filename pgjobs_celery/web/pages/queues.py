"""Queues: how each stands, and its pause and limit."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from typing import TYPE_CHECKING, Any

from ...control.attention import LATE
from ...control.overview import QueueNow
from ...control.queues import Queues
from ...db.rights import quoted
from ...errors import InvalidOption
from ...job.spelling import read_duration
from ..panels import depth_spark, panels
from ..routes import Act, Page
from ..windows import Past, now, page_of
from .queue_rules import rules_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from ...control.history import Line
    from ..visit import Visit

#: How many queues a page shows.
PAGE = 60
#: How the list may be sorted.
SORTS: dict[str, Callable[[QueueNow], Any]] = {
    "name": lambda queue: queue.name,
    "ready": lambda queue: (-queue.ready, queue.name),
    "running": lambda queue: (-queue.running, queue.name),
    "oldest": lambda queue: (-(queue.oldest_wait or 0.0), queue.name),
    "out": lambda queue: (-queue.rate_out, queue.name),
}


def queues(visit: Visit) -> Response:
    """All queues: those with jobs, workers, a pause or a limit, or that were declared to stay."""
    database, past = visit.source.database, Past(visit)
    present, words = now(visit), visit.query.get("q", "")
    sort = visit.query.get("sort", "name")
    found = sorted(
        (each for each in present.seen.queues if words.casefold() in each.name.casefold()),
        key=SORTS.get(sort, SORTS["name"]),
    )
    history = past.lines("queue")
    shown, page, pages = page_of(visit, found, PAGE)
    traced = {each.name: history.get(each.name[:200]) for each in shown}
    return visit.render(
        "queues.html",
        window=past.window,
        seen=present.seen,
        present=present,
        words=words,
        sort=sort if sort in SORTS else "name",
        sorts=list(SORTS),
        queues=shown,
        count=len(found),
        page=page,
        pages=pages,
        late=LATE,
        schema=quoted(database.schema),
        sparks={name: depth_spark(line) for name, line in traced.items()},
        failed={name: failed_of(line) for name, line in traced.items()},
    )


def failed_of(line: Line | None) -> tuple[int, int]:
    """How many failed, of how many that ended."""
    return (0, 0) if line is None else (sum(line.failed), sum(line.ended))


def queue(visit: Visit) -> Response:
    """One queue: its state, its charts, and the forms that change it."""
    name = _name(visit.query.get("name", ""))
    database, past = visit.source.database, Past(visit)
    present = now(visit)
    seen = present.seen
    found_now = next((each for each in seen.queues if each.name == name), None)
    if found_now is None:
        limits = Queues(database).get(name)
        found_now = QueueNow(name, paused_at=limits.paused_at, concurrency=limits.concurrency)
        is_known = limits.is_paused or limits.concurrency is not None
    else:
        is_known = True
    found = past.series("queue", name)
    return visit.render(
        "queue.html",
        window=past.window,
        queue=found_now,
        present=present,
        is_known=is_known or found.total.ended > 0,
        late=LATE,
        found=found,
        charts=panels(found),
        workers=[each for each in seen.workers if name in each.queues],
        shell=quote(name),
        spelled=repr(name),
        schema=quoted(database.schema),
        **rules_of(database, name),
    )


def pause(visit: Visit) -> Response:
    """No worker begins a job of it from now on."""
    name = _name(visit.form.get("queue", ""))
    given = str(visit.form.get("until", "")).strip()
    _control(visit).pause(name, read_duration(given) if given else None)
    end = f" --until {quote(given)}" if given else ""
    return visit.redirect(
        visit.back(), f"Queue {name} is paused: what runs ends, and nothing begins.",
        cli=f"celery -A proj pgjobs pause {quote(name)}{end}",
    )  # fmt: skip


def resume(visit: Visit) -> Response:
    """Workers claim from it again."""
    name = _name(visit.form.get("queue", ""))
    was_paused = _control(visit).resume(name)
    text = f"Queue {name} goes on." if was_paused else f"Queue {name} was not paused."
    return visit.redirect(visit.back(), text, cli=f"celery -A proj pgjobs resume {quote(name)}")


def limit(visit: Visit) -> Response:
    """At most so many of its jobs run at once; an empty field takes the limit away."""
    name = _name(visit.form.get("queue", ""))
    given = str(visit.form.get("concurrency", "")).strip()
    concurrency = _number(given, name) if given else None
    _control(visit).limit(name, concurrency)
    text = (
        f"Queue {name} has no limit."
        if concurrency is None
        else f"At most {concurrency:,} jobs of queue {name} run at once, on all workers together."
    )
    shown = "none" if concurrency is None else concurrency
    return visit.redirect(
        visit.back(), text, cli=f"celery -A proj pgjobs limit {quote(name)} {shown}"
    )


def _control(visit: Visit) -> Queues:
    """An action that changes queues; the next page must show it."""
    visit.site.memory.clear()
    return Queues(visit.source.database, visit.source.app)


def _name(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidOption("the address, or the form, names no queue")
    return given


def _number(text: str, queue: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidOption(
            f"the limit of queue {queue!r} must be a whole number from 0, or nothing for no limit, "
            f"not {text[:50]!r}"
        )
    return int(text)


ROUTES = (
    Page("/queues", queues, "queues", "Queues"),
    Page("/queue", queue, "queue"),
    Act("/queues/pause", pause, "pause_queue"),
    Act("/queues/resume", resume, "resume_queue"),
    Act("/queues/limit", limit, "limit_queue"),
)
