"""Failures: grouped by fingerprint, each with its traceback, and those that a deploy changed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from shlex import quote
from typing import TYPE_CHECKING, Any

from ...control import failures as control
from ...control.attempts import attempts
from ...control.explanation import COMMAND, count
from ...control.failures import FAILED, PAGE
from ...errors import InvalidOption
from ...job.states import State
from ..job_view import view_job
from ..routes import Act, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.responses import Response

    from ...control.attempts import Attempt
    from ...control.failures import Problem
    from ...db.rows.failures import FailedJob
    from ...db.rows.views import ShownJob
    from ..job_view import JobView
    from ..visit import Visit

#: The spans of the list, their lengths in seconds; None for all that is kept.
RANGES = {"hour": 3600.0, "day": 86_400.0, "week": 7 * 86_400.0, "all": None}
DEFAULT = "week"
_STATES = [state.value for state in FAILED]
#: What the sections of a comparison are called.
KINDS = {
    "new": "New", "more": "More than before", "same": "As before", "fewer": "Fewer than before",
    "gone": "Gone",
}  # fmt: skip


def failures(visit: Visit) -> Response:
    """The problems of a span of time; with ``since`` before and after that."""
    given = visit.query.get("since", "").strip()
    if given:
        return _comparison(visit, given)
    chosen = visit.query.get("range") or DEFAULT
    if chosen not in RANGES:
        raise InvalidOption(f"there is no range {chosen[:40]!r}; there are {', '.join(RANGES)}")
    length = RANGES[chosen]
    since = None if length is None else visit.now - timedelta(seconds=length)
    words: dict[str, Any] = {
        f"{name}s": visit.query.getlist(name) or None for name in ("task", "queue", "error")
    }
    found = control.failures(visit.source.database, since, **words)
    return visit.render(
        "failures.html",
        found=found,
        ranges=RANGES,
        chosen=chosen,
        words={name: values for name, values in words.items() if values},
        shown=_shown(visit),
        cli=_list_command(chosen, words),
        python="from pgjobs_celery.control.failures import failures\n\nfailures(app).problems",
    )


def _list_command(chosen: str, words: dict[str, Any]) -> str:
    ages = {"hour": " --since 1h", "day": " --since 1d", "week": " --since 7d", "all": ""}
    options = "".join(
        f" --{name[:-1]} {quote(value)}" for name, values in words.items() for value in values or ()
    )
    return f"{COMMAND} failures{ages[chosen]}{options}"


def _comparison(visit: Visit, given: str) -> Response:
    at = control.moment(given, visit.now)
    found = control.compare(visit.source.database, at)
    sections = [
        (kind, title, [change for change in found.changes if change.kind == kind])
        for kind, title in KINDS.items()
    ]
    return visit.render(
        "failures_compared.html",
        found=found,
        sections=[section for section in sections if section[2]],
        shown=_shown(visit),
        cli=f"{COMMAND} failures --compare {at.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
    )


def problem(visit: Visit) -> Response:
    """One problem: its newest traceback, where its jobs stand, and the jobs."""
    name, database = visit.query.get("fingerprint", ""), visit.source.database
    found = control.standing(database, name)
    unnamed = control.unnamed_jobs(database, name)
    rows = database.failures.list_problem_jobs(name, PAGE + 1, _before(visit))
    listed = rows[:PAGE]
    if len(rows) <= PAGE:
        listed += unnamed[: PAGE - len(rows)]
    older = rows[PAGE - 1] if len(rows) > PAGE else None
    view = _view(visit, listed)
    newest = None if view is None else _newest(view.row, name)
    return visit.render(
        "problem_page.html" if listed or found.jobs else "problem_gone.html",
        status=200 if listed or found.jobs else 404,
        name=name,
        type=newest.type if newest else name.rpartition("-")[0],
        newest=newest,
        traceback=view.traceback(newest.traceback) if view and newest else "",
        message=view.text(newest.message) if view and newest else "",
        found=found,
        unnamed=unnamed,
        failed=found.failed + len(unnamed),
        jobs=listed,
        older=visit.here(before=f"{older.failed_at.isoformat()}/{older.id}") if older else "",
        newer=visit.here(before=None) if visit.query.get("before") else "",
        cli=_command(name, "retry"),
        python=f"jobs(app).filter(fingerprint={name!r}, state={_STATES!r}).retry()",
        sql=_sql(visit, name),
        has_job="job" in visit.site.paths,
    )


def retry(visit: Visit) -> Response:
    """Put the failed jobs of a problem in line again."""
    return _act(visit, "retry", "put in line again")


def delete(visit: Visit) -> Response:
    """Take their rows away."""
    return _act(visit, "delete", "deleted")


def _act(visit: Visit, action: str, done: str) -> Response:
    name = str(visit.form.get("fingerprint", ""))
    if not name:
        raise InvalidOption("the form names no problem")
    selection = visit.source.jobs.filter(fingerprint=name, state=_STATES)
    unnamed = control.unnamed_jobs(visit.source.database, name)
    changed = getattr(selection, action)()
    if unnamed:
        ids = [job.task_id for job in unnamed]
        others = visit.source.jobs.filter(id=ids, state=State.DISCARDED.value)
        changed += getattr(others, action)()
    number = len(changed)
    text = (
        f"{count(number, 'job')} {'was' if number == 1 else 'were'} {done}."
        if number
        else "Nothing was changed: no job stands at this problem and waits for nobody."
    )
    return visit.redirect(
        visit.back("failures"), text, cli=_command(name, action), is_error=not number
    )


def _command(name: str, action: str) -> str:
    states = " ".join(f"--state {state.value}" for state in FAILED)
    return f"{COMMAND} {action} --fingerprint {quote(name)} {states}"


def _sql(visit: Visit, name: str) -> str:
    literal = name.replace("'", "''")
    schema = visit.source.database.schema
    return (
        "SELECT task_id, task, queue, state, failed_at, attempted_by, args, kwargs\n"
        f"FROM \"{schema}\".job_details\nWHERE fingerprint = '{literal}'\n"
        "ORDER BY failed_at DESC LIMIT 100"
    )


def _before(visit: Visit) -> tuple[datetime, int] | None:
    """The last row of the page before, from the address."""
    text = visit.query.get("before", "")
    if not text:
        return None
    at, _, id = text.rpartition("/")
    try:
        moment, number = datetime.fromisoformat(at), int(id)
        if moment.tzinfo is None or not 0 <= number < 2**63 or len(id) > 19:
            raise ValueError
    except ValueError:
        raise InvalidOption("the address of this page of the list cannot be read") from None
    return moment, number


def _shown(visit: Visit) -> Callable[[Problem], str]:
    """What of a problem's message the list shows."""

    def shown(problem: Problem) -> str:
        redactor = visit.site.redaction.of(problem.tasks[0] if problem.tasks else "")
        return redactor.text(problem.summary)

    return shown


def _view(visit: Visit, jobs: Sequence[FailedJob]) -> JobView | None:
    """The newest job as it may be shown."""
    row = visit.source.database.views.show_job(jobs[0].task_id) if jobs else None
    return view_job(row, visit.site.redaction, visit.source.app) if row is not None else None


def _newest(row: ShownJob, name: str) -> Attempt | None:
    """Its last attempt that failed so; any failed one otherwise."""
    failed = [attempt for attempt in attempts(row) if attempt.fingerprint]
    same = [attempt for attempt in failed if attempt.fingerprint == name]
    found = same or failed
    return found[-1] if found else None


ROUTES = (
    Page("/failures", failures, "failures", "Failures"),
    Page("/failures/problem", problem, "problem"),
    Act("/failures/retry", retry, "retry_jobs", "retry_problem"),
    Act("/failures/delete", delete, "delete_jobs", "delete_problem"),
)
