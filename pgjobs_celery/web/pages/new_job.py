"""Publish a job by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ...beat.by_hand import publish_by_hand
from ...errors import InvalidOption, PgJobsError
from ...job.checks import did_you_mean
from ..entries import MOST_TASKS, NO_APP
from ..routes import Act, Page
from .bulk import read_moment

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

#: The fields of the form, as they are sent and shown again.
FIELDS = ("task", "args", "kwargs", "queue", "when", "priority", "tags")


def new_job(visit: Visit) -> Response:
    """The form; the address may fill it: for a job like another one."""
    return _form(visit, {name: visit.query.get(name, "") for name in FIELDS})


def publish(visit: Visit) -> Response:
    """Publish what the form says."""
    values = {name: _field(visit, name) for name in FIELDS}
    try:
        if visit.source.app is None:
            raise PgJobsError(NO_APP)
        task = values["task"]
        _check_task(visit, task)
        args = _json("args", values["args"], [])
        kwargs = _json("kwargs", values["kwargs"], {})
        result = publish_by_hand(visit.source.app, task, args, kwargs, _options(values))
    except PgJobsError as error:
        return _form(visit, values, str(error))
    return visit.redirect(visit.url("job", id=result.id), "It was published.")


def _form(visit: Visit, values: dict[str, str], error: str = "") -> Response:
    return visit.render(
        "new_job.html",
        400 if error else 200,
        values=values,
        error=error,
        tasks=_tasks(visit)[:MOST_TASKS],
        reason="" if visit.source.app is not None else NO_APP,
    )


def _tasks(visit: Visit) -> list[str]:
    """The names of the program's tasks."""
    known = () if visit.source.app is None else visit.source.app.tasks
    return sorted(name for name in known if not name.startswith("celery."))


def _check_task(visit: Visit, task: str) -> None:
    if not task:
        raise InvalidOption("a job needs a task")
    if task not in visit.source.app.tasks and not _field(visit, "unknown"):
        near = did_you_mean(task, _tasks(visit))
        raise InvalidOption(
            f"this program has no task {task!r}{near} A worker that does not know it discards the"
            " job: tick below that one does"
        )


def _options(values: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if values["queue"]:
        options["queue"] = values["queue"]
    if (when := read_moment(values["when"])) is not None:
        options.update(when)
    if given := values["priority"]:
        if not (given.isascii() and given.isdigit() and int(given[:9]) <= 255):
            raise InvalidOption(f"priority must be 0 to 255, not {given[:40]!r}")
        options["priority"] = int(given)
    if tags := [tag.strip() for tag in values["tags"].split(",") if tag.strip()]:
        options["tags"] = tags
    return options


def _json(name: str, text: str, default: Any) -> Any:
    """An array or an object, as the default is."""
    try:
        value = json.loads(text) if text else default
    except (ValueError, RecursionError) as error:
        raise InvalidOption(f"{name} is not JSON: {error}") from None
    if not isinstance(value, type(default)):
        kind = "an array: [1, 2]" if isinstance(default, list) else 'an object: {"user_id": 7}'
        raise InvalidOption(f"{name} must be {kind}")
    return value


def _field(visit: Visit, name: str) -> str:
    value = visit.form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


ROUTES = (Page("/jobs/new", new_job, "new_job"), Act("/jobs/new", publish, "publish_jobs"))
