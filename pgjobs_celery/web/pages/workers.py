"""The processes that claim jobs: alive, silent or dead, and what each runs."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING, Any

from ...control.remote import MOST, Answer, ping, resize_pool, shut_down
from ...control.workers import Worker, list_workers
from ...errors import InvalidOption, PgJobsError
from ..routes import Act, Page

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

#: How many jobs of a worker are shown.
SHOWN = 50
#: The pools that can be made to grow and shrink.
ELASTIC = ("prefork", "gevent", "eventlet", "processes")


def workers(visit: Visit) -> Response:
    """All of them, by name; those that have died while nobody has taken their jobs."""
    found = list_workers(visit.source.database)
    counts = dict.fromkeys(("alive", "silent", "dead"), 0)
    for worker in found:
        counts[state_of(worker)] += 1
    busy = sum(min(len(worker.jobs), worker.slots or len(worker.jobs)) for worker in found)
    return visit.render(
        "workers.html",
        workers=[(state_of(worker), worker) for worker in found],
        counts=counts,
        busy=busy,
        slots=sum(worker.slots or 0 for worker in found if worker.is_alive),
        shown=SHOWN,
        elastic=ELASTIC,
        has_app=visit.source.app is not None,
        versions=sorted({worker.version for worker in found if worker.version}),
    )


def state_of(worker: Worker) -> str:
    """``alive``, ``silent`` or ``dead``."""
    if not worker.is_alive:
        return "dead"
    return "silent" if worker.is_silent else "alive"


def ping_worker(visit: Visit) -> Response:
    """See whether a worker answers."""
    name = _name(visit)
    (answer,) = ping(_app(visit), [name])
    return _told(visit, answer, f"celery -A proj inspect ping -d {quote(name)}")


def resize_worker(visit: Visit) -> Response:
    """Have a worker run more tasks at once, or fewer."""
    name, by = _name(visit), str(visit.form.get("by", "")).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,4}", by):
        raise InvalidOption(f"a pool grows or shrinks by 1 to {MOST}, not {by!r}")
    answer = resize_pool(_app(visit), name, int(by))
    verb = "grow" if int(by) > 0 else "shrink"
    return _told(
        visit, answer, f"celery -A proj control pool_{verb} {abs(int(by))} -d {quote(name)}"
    )


def shutdown_worker(visit: Visit) -> Response:
    """Tell a worker to end once its running tasks have."""
    name = _name(visit)
    shut_down(_app(visit), name)
    return visit.redirect(
        visit.back("workers"),
        f"Worker {name} was told to shut down: it takes no more jobs, and ends when those that run "
        "have ended.",
        cli=f"celery -A proj control shutdown -d {quote(name)}",
    )


def _told(visit: Visit, answer: Answer, cli: str) -> Response:
    text = f"Worker {answer.worker}: {answer.text}."
    return visit.redirect(visit.back("workers"), text, cli=cli, is_error=not answer.is_ok)


def _name(visit: Visit) -> str:
    return str(visit.form.get("worker", ""))


def _app(visit: Visit) -> Any:
    if visit.source.app is None:
        raise PgJobsError(
            "this page knows the database only, and not the program: to tell workers something, "
            "start it as celery -A proj pgjobs web"
        )
    return visit.source.app


ROUTES = (
    Page("/workers", workers, "workers", "Workers"),
    Act("/workers/ping", ping_worker, "ping_worker"),
    Act("/workers/resize", resize_worker, "resize_worker"),
    Act("/workers/shutdown", shutdown_worker, "shutdown_worker"),
)
