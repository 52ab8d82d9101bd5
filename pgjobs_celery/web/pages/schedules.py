"""The entries that beat publishes: when, what came of it, and what is to come."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from shlex import quote
from typing import TYPE_CHECKING, Any

from kombu.utils.json import dumps

from ...beat.coming import SHOWN, Day, coming, count_overdue
from ...beat.english import describe
from ...beat.form import KINDS, EntryForm, write_when
from ...beat.missed import GRACE
from ...beat.schedule import find_own
from ...db.rows.schedules import list_apps
from ...errors import InvalidOption, PgJobsError
from ...scopes.steady import monotonic
from ..entries import Entries, entries_of
from ..job_view import parameters, without_secrets
from ..routes import Act, Page
from ..values import visible

if TYPE_CHECKING:
    from starlette.responses import Response

    from ...beat.schedule import Schedule
    from ..visit import Visit

#: How many entries stand on a page of the list, and of the calendar.
PAGE, CALENDAR_PAGE = 100, 50
#: For how long days are counted for one page, in seconds; the others are counted by the next look,
#: which finds these done.
BUDGET = 0.1


@dataclass(frozen=True)
class Line:
    """An entry in the list."""

    entry: Schedule
    #: In plain English; as it is written where there are no words for it.
    words: str
    written: str
    zone: str
    #: How many ticks are late, and whether there are more.
    overdue: int = 0
    is_more: bool = False
    #: None where it is not known when it is due, or was not counted yet.
    days: list[Day] | None = None


def list_schedules(visit: Visit) -> Response:
    """The entries by name, a hundred at a time."""
    entries, names, page = _choose(visit, PAGE)
    lines = [_line(entries, entry) for entry in entries.select(page)]
    return visit.render(
        "schedules.html",
        lines=lines,
        total=len(names),
        entries=entries,
        search=visit.query.get("q", ""),
        older=_next(visit, names, page),
        apps=list_apps(visit.source.database),
    )


def calendar(visit: Visit) -> Response:
    """The next seven days of the entries."""
    entries, names, page = _choose(visit, CALENDAR_PAGE)
    end = monotonic() + BUDGET
    lines = [_line(entries, entry, count_until=end) for entry in entries.select(page)]
    known = next((line.days for line in lines if line.days), None)
    return visit.render(
        "calendar.html",
        lines=lines,
        total=len(names),
        entries=entries,
        columns=[day.day for day in known or ()],
        search=visit.query.get("q", ""),
        older=_next(visit, names, page),
        is_cut=any(line.days is None and _is_due(line.entry) for line in lines),
        zone=entries.zone,
        most=SHOWN,
    )


def schedule(visit: Visit) -> Response:
    """One entry, with a form to change it."""
    entries = entries_of(visit)
    entry = entries.get(visit.query.get("name", ""))
    if entry is None:
        return visit.render(
            "problem.html",
            404,
            title="Not an entry",
            text=f"There is no entry {visit.query.get('name', '')!r} of app {entries.app_name!r}.",
        )
    line = _line(entries, entry, count_until=monotonic() + BUDGET)
    job = visit.source.jobs.get(entry.last_task_id) if entry.last_task_id else None
    shown = shown_arguments(visit, entries, entry)
    return visit.render(
        "schedule.html",
        line=line,
        entry=entry,
        entries=entries,
        error_text=_error(visit, job),
        form=to_form(entry, keeps=shown is not None),
        shown=shown,
        is_new=False,
        kinds=KINDS,
        error="",
    )


def shown_arguments(visit: Visit, entries: Entries, entry: Schedule) -> str | None:
    """The arguments as they may be shown, where something of them may not; None if all may."""
    given = entry.args or [], entry.kwargs or {}
    redactor = visit.site.redaction.of(entry.task)
    names = parameters(entries.app, entry.task)
    args, kwargs = redactor.given(*given, names)
    options = redactor.value("meta", entry.options or {})
    if (list(args), kwargs, options) == (*map(_same, given), entry.options or {}):
        return None
    return visible(f"{args!r} {kwargs!r}")


def _same(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else dict(value)


def _error(visit: Visit, job: Any) -> str:
    """The last error of a job, without what may not be shown."""
    if job is None or not job.errors:
        return ""
    error = job.errors[-1]
    told = job.task_id, job.task, f"{error.get('type', '')}: {error.get('message', '')}"
    return without_secrets(visit, [told])[told][:300]


def new_schedule(visit: Visit) -> Response:
    """A form for an entry that is not there yet."""
    entries = entries_of(visit)
    form = EntryForm("", "", "cron", "0 2 * * *")
    return _form(visit, entries, form, is_new=True)


def put_schedule(visit: Visit) -> Response:
    """Make or change an entry; a form with a mistake is shown again with what is wrong."""
    entries = entries_of(visit)
    control = entries.control()
    field = {name: str(value) for name, value in visit.form.items()}
    is_new = field.get("is_new") == "1"
    names = EntryForm.__dataclass_fields__
    form = EntryForm(**{"kind": "", "when": "", "task": "", "name": "", **_only(field, names)})
    kept = control.get(form.name) if field.get("keeps") == "1" and not is_new else None
    if kept is not None:
        # The task, too: another one's arguments may be shown.
        form = replace(form, task=kept.task, args="", kwargs="", options="")
    try:
        values = form.read(control.app)
        if kept is not None:
            values |= {"args": kept.args or (), "kwargs": kept.kwargs, **(kept.options or {})}
        entry = (control.add if is_new else control.put)(**values)
    except PgJobsError as error:
        return _form(visit, entries, form, is_new=is_new, kept=kept, error=str(error))
    except TypeError as error:  # an option of a name that put() has, too
        return _form(visit, entries, form, is_new=is_new, kept=kept, error=f"options: {error}")
    done = "was made" if is_new else "was changed"
    return visit.redirect(
        visit.url("schedule", name=entry.name),
        f"Entry {entry.name} {done}; it is due next {_due(entry)}.",
        # Without the arguments that are kept, the command would not be the same.
        cli="" if kept is not None else form.command(replaces=not is_new),
    )


def run_schedule(visit: Visit) -> Response:
    """Publish it now, beside its ticks."""
    name = str(visit.form.get("name", ""))
    result = entries_of(visit).control(publishes=True).run(name)
    if result is None:
        raise InvalidOption(f"there is no entry {name!r} any more")
    return _done(visit, "run", name, f"Entry {name} was published now as job {result.id}.")


def pause_schedule(visit: Visit) -> Response:
    """Publish no tick of it from now on."""
    name = str(visit.form.get("name", ""))
    if not entries_of(visit).rows_only().pause(name):
        raise InvalidOption(f"there is no entry {name!r} any more")
    return _done(visit, "pause", name, f"Entry {name} is paused; none of its ticks is published.")


def resume_schedule(visit: Visit) -> Response:
    """Go on with its next tick."""
    name, control = _named(visit)
    was_paused = control.resume(name)
    entry = control.get(name)
    if entry is None:
        raise InvalidOption(f"there is no entry {name!r} any more")
    text = f"goes on; it is due next {_due(entry)}" if was_paused else "was not paused"
    return _done(visit, "resume", name, f"Entry {name} {text}.")


def delete_schedule(visit: Visit) -> Response:
    """Take it away."""
    name = str(visit.form.get("name", ""))
    if not entries_of(visit).rows_only().delete(name):
        raise InvalidOption(f"there is no entry {name!r} any more")
    return visit.redirect(
        visit.url("schedules"),
        f"Entry {name} was deleted. The jobs that it has published are still there.",
        cli=f"celery -A proj pgjobs schedules delete {quote(name)}",
    )


def to_form(entry: Schedule, *, keeps: bool = False) -> EntryForm:
    """The fields of a form that would change nothing; ``keeps`` what it does not show."""
    kind, when, tz = write_when(entry.spec)
    return EntryForm(
        name=entry.name,
        task=entry.task,
        kind=kind,
        when=when,
        tz=tz,
        args="" if keeps else _json(entry.args),
        kwargs="" if keeps else _json(entry.kwargs),
        options="" if keeps else _json(entry.options),
        missed=entry.missed,
        missed_limit=str(entry.missed_limit),
    )


def _form(
    visit: Visit,
    entries: Entries,
    form: EntryForm,
    *,
    is_new: bool,
    kept: Schedule | None = None,
    error: str = "",
) -> Response:
    visit.page = visit.page or "new_schedule"  # the form was sent from one
    return visit.render(
        "schedule_form.html",
        400 if error else 200,
        form=form,
        entries=entries,
        shown=None if kept is None else shown_arguments(visit, entries, kept),
        is_new=is_new,
        kinds=KINDS,
        error=error,
    )


def _line(entries: Entries, entry: Schedule, count_until: float | None = None) -> Line:
    kind, when, tz = write_when(entry.spec)
    written = when if kind in ("cron", "crontab") else str(entry.spec.get("repr", ""))
    words = describe(entry.spec) or written or "in a way that is known to the program only"
    line = Line(entry, words, written, tz or ("" if kind == "every" else str(entries.zone)))
    given = entry.schedule
    if given is None and entry.is_configured and entries.app is not None:
        own = find_own(entries.app, entry.name)
        given = None if own is None else own.schedule
    if given is None or entry.next_run_at is None or entries.app is None:
        return line
    try:
        overdue, is_more = 0, False
        if (entries.now - entry.next_run_at).total_seconds() > GRACE:
            overdue, is_more = count_overdue(given, entry.next_run_at, entries.now)
        days = None
        if count_until is not None and monotonic() < count_until:
            days = coming(given, entry.next_run_at, entries.now, entries.zone)
    except Exception:  # a class of the program's, or a row that was written by hand
        return line
    return Line(entry, words, written, line.zone, overdue, is_more, days)


def _choose(visit: Visit, size: int) -> tuple[Entries, list[str], list[str]]:
    """The entries, the names that fit the search, and those of this page."""
    entries = entries_of(visit)
    search = visit.query.get("q", "").casefold()
    names = [name for name in entries.names() if search in name.casefold()]
    after = visit.query.get("after", "")
    return entries, names, [name for name in names if name > after][:size]


def _next(visit: Visit, names: list[str], page: list[str]) -> str:
    return visit.here(after=page[-1]) if page and names and page[-1] != names[-1] else ""


def _named(visit: Visit) -> tuple[str, Any]:
    """The entry of a form, and the entries of its app. Raises InvalidOption without an app."""
    return str(visit.form.get("name", "")), entries_of(visit).control()


def _done(visit: Visit, verb: str, name: str, text: str) -> Response:
    cli = f"celery -A proj pgjobs schedules {verb} {quote(name)}"
    return visit.redirect(visit.back("schedules"), text, cli=cli)


def _due(entry: Schedule) -> str:
    at = entry.next_run_at
    return f"at {at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC" if at else "never"


def _is_due(entry: Schedule) -> bool:
    return isinstance(entry.next_run_at, datetime) and entry.schedule is not None


def _only(fields: dict[str, str], names: Any) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name in names}


def _json(value: Any) -> str:
    """As it may be typed; dates and others as Celery's JSON has them."""
    if not value:
        return ""
    return json.dumps(json.loads(dumps(value)), ensure_ascii=False)


ROUTES = (
    Page("/schedules", list_schedules, "schedules", "Schedules"),
    Page("/schedules/week", calendar, "calendar"),
    Page("/schedule", schedule, "schedule"),
    Page("/schedules/new", new_schedule, "new_schedule"),
    Act("/schedules/put", put_schedule, "put_schedule"),
    Act("/schedules/run", run_schedule, "run_schedule"),
    Act("/schedules/pause", pause_schedule, "pause_schedule"),
    Act("/schedules/resume", resume_schedule, "resume_schedule"),
    Act("/schedules/delete", delete_schedule, "delete_schedule"),
)
