"""Failures: grouped by fingerprint, each with its traceback, and those that a deploy changed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from shlex import quote
from typing import TYPE_CHECKING, Any

from ...control import failures as control
from ...control.attempts import attempts
from ...control.explanation import COMMAND
from ...control.failures import FAILED, PAGE
from ...control.filters import Filters
from ...control.search import write_word
from ...control.spelled import as_cli, as_python, as_sql
from ...errors import InvalidOption
from ..charts import spark_bars
from ..job_view import view_job, without_secrets
from ..routes import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup
    from starlette.responses import Response

    from ...control.attempts import Attempt
    from ...control.problems import Problem
    from ...db.rows.failures import FailedJob
    from ...db.rows.views import ShownJob
    from ..job_view import JobView
    from ..visit import Visit

#: The spans of the list, their lengths in seconds; None for all that is kept.
RANGES = {"hour": 3600.0, "day": 86_400.0, "week": 7 * 86_400.0, "all": None}
DEFAULT = "week"
#: How many problems a list has at most, and each part of a comparison.
LONGEST, LONGEST_PART = 80, 50
_STATES = [state.value for state in FAILED]
#: The titles of the sections of a comparison.
KINDS = {
    "new": "New", "more": "More than before", "fewer": "Fewer than before", "gone": "Gone",
    "same": "As before, or too rare to tell",
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
    found = control.failures(visit.source.database, since, **words, limit=LONGEST)
    return visit.render(
        "failures.html",
        found=found,
        ranges=RANGES,
        chosen=chosen,
        words={name: values for name, values in words.items() if values},
        shown=_shown(visit, found.problems),
        bars=_bars(found.since, found.until),
        cli=_list_command(chosen, words),
        python=_list_python(length, words),
        sql=_list_sql(visit.source.database.schema, length, words),
    )


def _list_command(chosen: str, words: dict[str, Any]) -> str:
    ages = {"hour": " --since 1h", "day": " --since 1d", "week": " --since 7d", "all": ""}
    options = "".join(
        f" --{name[:-1]} {quote(value)}" for name, values in words.items() for value in values or ()
    )
    return f"{COMMAND} failures{ages[chosen]}{options}"


def _list_python(length: float | None, words: dict[str, Any]) -> str:
    since = (
        "" if length is None else f", datetime.now(timezone.utc) - timedelta(seconds={length:.0f})"
    )
    more = "".join(f", {name}={value!r}" for name, value in words.items() if value)
    times = "from datetime import datetime, timedelta, timezone\n\n" if since else ""
    imports = "from pgjobs_celery.control.failures import failures"
    return f"{times}{imports}\n\nfailures(app{since}{more}).problems"


def _list_sql(schema: str, length: float | None, words: dict[str, Any]) -> str:
    filters = {name: words[f"{name}s"] for name in ("task", "queue", "error") if words[f"{name}s"]}
    _, _, where = as_sql(Filters().narrow(**filters), schema).partition("WHERE ")
    given = where.partition("\nORDER BY")[0]
    span = f"now() - interval '{length:.0f} seconds'" if length else "'-infinity'"
    quoted = '"' + schema.replace('"', '""') + '"'
    return (
        "SELECT fingerprint, count(*), min(failed_at), max(failed_at)\n"
        f"FROM {quoted}.jobs\nWHERE failed_at > {span}{' AND ' if given else ''}{given}\n"
        "GROUP BY fingerprint\nORDER BY max(failed_at) DESC"
    )


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
        longest=LONGEST_PART,
        sections=[section for section in sections if section[2]],
        shown=_shown(
            visit,
            [change.problem for _, _, part in sections for change in part[:LONGEST_PART]],
        ),
        cli=f"{COMMAND} failures --compare {at.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
    )


def problem(visit: Visit) -> Response:
    """One problem: its newest traceback, where its jobs stand, and the jobs."""
    name, database = visit.query.get("fingerprint", ""), visit.source.database
    filters = Filters().narrow(fingerprint=name, state=_STATES)
    search = f"{write_word('fingerprint', name)} {write_word('state', _STATES)}"
    found = control.standing(database, name)
    unnamed = control.unnamed_jobs(database, name)
    rows = database.failures.list_problem_jobs(name, PAGE + 1, _before(visit))
    listed = rows[:PAGE]
    if len(rows) <= PAGE:
        listed += unnamed[: PAGE - len(rows)]
    older = rows[PAGE - 1] if len(rows) > PAGE else None
    since = visit.query.get("since", "").strip()
    at = control.moment(since, visit.now) if since else None
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
        bars=_bars(found.first_seen, visit.now),
        since=since,
        shift=control.shift(database, name, at, found.first_seen) if at else None,
        kinds=KINDS,
        unnamed=unnamed,
        failed=found.failed,
        jobs=listed,
        older=visit.here(before=f"{older.failed_at.isoformat()}/{older.id}") if older else "",
        newer=visit.here(before=None) if visit.query.get("before") else "",
        search=search,
        all_of_it=write_word("fingerprint", name) if name else "",
        cli=as_cli(filters, "retry"),
        python=as_python(filters, "retry"),
        sql=as_sql(filters, database.schema),
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


def _shown(visit: Visit, problems: Sequence[Problem]) -> Callable[[Problem], str]:
    """The part of a problem's message that the list shows."""

    def words(problem: Problem) -> tuple[str, str, str]:
        return problem.task_id, problem.tasks[0] if problem.tasks else "", problem.summary

    known = without_secrets(visit, map(words, problems))
    return lambda problem: known[words(problem)]


def _bars(since: datetime | None, until: datetime) -> Callable[[Sequence[int]], Markup]:
    """Draws how many failed in each part of the span."""

    def bars(series: Sequence[int]) -> Markup:
        begin = f"{since:%Y-%m-%d %H:%M}" if since else ""
        label = f"{sum(series):,} failed from {begin} to {until:%Y-%m-%d %H:%M} UTC"
        return spark_bars([(0.0, float(number)) for number in series], label)

    return bars


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
)
